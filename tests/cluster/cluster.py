"""A Kubernetes cluster without containers, and what its administrator does with it."""

import json
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import yaml

from tests.cluster.install import definition_files
from tests.cluster.server import ApiServer, ControllerManager, Etcd, Kwok, Scheduler

Object = dict[str, Any]

CALL_SECONDS = 120
WAIT = f"--timeout={CALL_SECONDS // 2}s"
NODES = 3
RESTRICTED = {
    f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")
}


class Refused(Exception):
    """kubectl ended with an error or a warning; carries what it wrote to standard error."""


def manifest(objects: Iterable[Object]) -> str:
    """Objects as YAML documents."""
    text: str = yaml.safe_dump_all(objects, sort_keys=False)
    return text


class Cluster:
    """Runs kubectl against an API server; each call has a time limit, and warnings are errors."""

    def __init__(self, api: ApiServer) -> None:
        self.kubeconfig = api.kubeconfig
        self._kubectl = (str(api.kubectl), f"--kubeconfig={api.kubeconfig}")

    def run(self, *arguments: str, text: str = "") -> str:
        """Standard output of kubectl; Refused when it fails."""
        done = subprocess.run(
            (*self._kubectl, *arguments),
            input=text,
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
        )
        if done.returncode:
            raise Refused(done.stderr)
        return done.stdout

    def try_out(self, text: str, namespace: str) -> list[str]:
        """Names of the objects that a strict server-side dry run accepts, when it accepts all."""
        strict = ("--dry-run=server", "--validate=strict", "--warnings-as-errors", "--output=name")
        return self.run("create", f"--namespace={namespace}", *strict, "-f", "-", text=text).split()

    def create(self, text: str, namespace: str) -> None:
        """Create all; an object of a name that exists already is refused."""
        options = ("--validate=strict", "--warnings-as-errors")
        self.run("create", f"--namespace={namespace}", *options, "-f", "-", text=text)

    def get(self, kind: str, namespace: str, *options: str) -> list[Object]:
        """Objects of a kind, in the order of their names."""
        where = ("get", kind, f"--namespace={namespace}", "--output=json")
        items: list[Object] = json.loads(self.run(*where, *options))["items"]
        return items

    @contextmanager
    def namespace(self, name: str) -> Iterator[str]:
        """A namespace that enforces Pod Security `restricted`, and is deleted at the end."""
        self.run("create", "-f", "-", text=manifest([_named("Namespace", name, RESTRICTED)]))
        self._wait_for_account(name)
        try:
            yield name
        finally:
            self.run("delete", "namespace", name, "--wait=false")

    def add_definitions(self) -> None:
        """Add the custom resources of KEDA and of the Prometheus operator, and wait for them."""
        files = [f"--filename={file}" for file in definition_files()]
        self.run("create", "--validate=false", *files)
        wait = ("--for=condition=Established", WAIT, "--all")
        self.run("wait", *wait, "customresourcedefinitions")

    def add_nodes(self) -> list[str]:
        """Add a node in each of NODES zones, and wait until they take pods."""
        names = [f"node-{number}" for number in range(NODES)]
        nodes = [_named("Node", name, _place(name, f"zone-{name[-1]}")) for name in names]
        self.run("create", "-f", "-", text=manifest(nodes))
        self.run("wait", "--for=condition=Ready", WAIT, "nodes", "--all")
        self.run("taint", "nodes", "--all", "node.kubernetes.io/not-ready-")
        return names

    def evict(self, pod: str, namespace: str) -> None:
        """Ask for a pod's eviction, as a drain does; Refused where its budget forbids it."""
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
        self.run("create", "--raw", path, "-f", "-", text=json.dumps(eviction))

    @contextmanager
    def cordoned(self) -> Iterator[None]:
        """No node takes new pods for the length of the block."""
        nodes = [each.removeprefix("node/") for each in self.run("get", "nodes", "-o=name").split()]
        self.run("cordon", *nodes)
        try:
            yield
        finally:
            self.run("uncordon", *nodes)

    def _wait_for_account(self, namespace: str) -> None:
        wait = ("wait", "--for=create", WAIT, "serviceaccount/default")
        self.run(*wait, f"--namespace={namespace}")


def _named(kind: str, name: str, labels: dict[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels}}


def _place(host: str, zone: str) -> dict[str, str]:
    return {"kubernetes.io/hostname": host, "topology.kubernetes.io/zone": zone}


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A cluster with the custom resources and nodes that take pods."""
    with ExitStack() as servers:
        api = servers.enter_context(ApiServer(servers.enter_context(Etcd())))
        for component in (ControllerManager, Scheduler, Kwok):
            servers.enter_context(component(api))
        cluster = Cluster(api)
        cluster.add_definitions()
        cluster.add_nodes()
        yield cluster
