"""A release of the chart on the cluster, installed and upgraded by Helm itself."""

import subprocess
import time
from collections.abc import Callable

from tests.cluster.cluster import Cluster, Object
from tests.cluster.install import program
from tests.deploy.helm_chart import CHART, RELEASE

STEP_SECONDS = 120


class Release:
    """A release of one form of the chart in a namespace of its own."""

    def __init__(self, cluster: Cluster, namespace: str, options: tuple[str, ...]) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.options = options

    def helm(self, command: str, *options: str) -> None:
        """Install or upgrade, and wait until pods are ready and jobs complete."""
        place = (f"--kubeconfig={self.cluster.kubeconfig}", f"--namespace={self.namespace}")
        wait = ("--wait", "--wait-for-jobs", f"--timeout={STEP_SECONDS}s")
        whole = (
            str(program("helm")),
            command,
            RELEASE,
            str(CHART),
            *place,
            *wait,
            *self.options,
            *options,
        )
        done = subprocess.run(whole, capture_output=True, text=True, timeout=2 * STEP_SECONDS)
        assert not done.returncode, done.stderr

    def get(self, kind: str, *options: str) -> list[Object]:
        """Objects of a kind in the release's namespace."""
        return self.cluster.get(kind, self.namespace, *options)

    def selected(self, kind: str, labels: dict[str, str]) -> list[Object]:
        """Objects of a kind that carry all the labels."""
        return self.get(kind, f"--selector={','.join(f'{k}={v}' for k, v in labels.items())}")

    def run(self, *arguments: str) -> str:
        """kubectl in the release's namespace."""
        return self.cluster.run(*arguments, f"--namespace={self.namespace}")

    def scale(self, workload: Object, replicas: int) -> None:
        """Scale a workload as an autoscaler does, and wait until its pods are ready."""
        name = f"{workload['kind'].lower()}/{workload['metadata']['name']}"
        self.run("scale", name, f"--replicas={replicas}")
        self.run("rollout", "status", name, f"--timeout={STEP_SECONDS}s")
        eventually(lambda: len(self.pods(workload)) == replicas)

    def pods(self, selecting: Object) -> list[Object]:
        """The pods that a workload or a disruption budget selects, those that end left out."""
        found = self.selected("pods", selecting["spec"]["selector"]["matchLabels"])
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def evict(self, pod: Object) -> None:
        """Ask for a pod's eviction; Refused where a disruption budget forbids it."""
        self.cluster.evict(pod["metadata"]["name"], self.namespace)


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it holds; fails after STEP_SECONDS."""
    deadline = time.monotonic() + STEP_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "the controllers did not come to it"
        time.sleep(0.2)
