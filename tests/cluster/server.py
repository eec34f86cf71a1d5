"""The servers of a Kubernetes cluster without containers: etcd, the API server, controllers."""

import json
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.cluster.install import INSTALL_HINT, program, stage_files
from tests.servers.install import Absent
from tests.servers.server import Server, free_port

READY_CALL_SECONDS = 10.0
SERVICE_ADDRESSES = "10.96.0.0/16"
CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "job-controller",
    "disruption-controller",
    "endpointslice-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "persistentvolume-binder-controller",
    "root-ca-certificate-publisher-controller",
)


class Etcd(Server):
    """etcd, on its data folder alone."""

    name = "etcd"

    def __init__(self) -> None:
        if not shutil.which("etcd"):
            raise Absent(f"etcd is not installed: {INSTALL_HINT}")
        super().__init__()
        self.url = f"http://{self.address}"

    def command(self) -> Sequence[str | Path]:
        peers = f"http://127.0.0.1:{free_port()}"
        return (
            "etcd",
            "--data-dir=data",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
        )


class ApiServer(Server):
    """kube-apiserver with its default admission, and a kubeconfig of an administrator."""

    name = "kube-apiserver"

    def __init__(self, etcd: Etcd) -> None:
        self.binary = program(self.name)
        self.kubectl = program("kubectl")
        super().__init__()
        self.etcd = etcd
        self.key = self.folder / "service-account.key"
        self.certificate = self.folder / "certificates" / "apiserver.crt"
        self.kubeconfig = self.folder / "kubeconfig"
        self._write_files()

    def command(self) -> Sequence[str | Path]:
        return (
            self.binary,
            f"--etcd-servers={self.etcd.url}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--cert-dir=certificates",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            f"--service-cluster-ip-range={SERVICE_ADDRESSES}",
            f"--service-account-issuer=https://{self.address}",
            f"--service-account-key-file={self.key}",
            f"--service-account-signing-key-file={self.key}",
        )

    def ready(self) -> bool:
        if not super().ready():
            return False
        command = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", "get", "--raw", "/readyz"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=READY_CALL_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def _write_files(self) -> None:
        token = secrets.token_hex(16)
        (self.folder / "tokens.csv").write_text(f"{token},administrator,1,system:masters\n")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.kubeconfig.write_text(json.dumps(self._client(token)))

    def _client(self, token: str) -> dict[str, object]:
        place = f"https://{self.address}"
        server = {"server": place, "certificate-authority": str(self.certificate)}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }


class Component(Server):
    """A server that works through the API server; its own port is for its health."""

    def __init__(self, api: ApiServer) -> None:
        self.binary = program(self.name)
        super().__init__()
        self.api = api

    def command(self) -> Sequence[str | Path]:
        place = ("--bind-address=127.0.0.1", f"--secure-port={self.port}", "--leader-elect=false")
        return (self.binary, f"--kubeconfig={self.api.kubeconfig}", *place)


class ControllerManager(Component):
    """kube-controller-manager with the controllers that a release needs."""

    name = "kube-controller-manager"

    def command(self) -> Sequence[str | Path]:
        return (
            *super().command(),
            f"--controllers={','.join(CONTROLLERS)}",
            f"--service-account-private-key-file={self.api.key}",
            f"--root-ca-file={self.api.certificate}",
        )


class Scheduler(Component):
    """kube-scheduler."""

    name = "kube-scheduler"


class Kwok(Component):
    """kwok, which plays every node: pods are ready at once, and run no container."""

    name = "kwok"

    def command(self) -> Sequence[str | Path]:
        stages = (f"--config={file}" for file in stage_files())
        place = (f"--server-address={self.address}", "--node-port=0", "--manage-all-nodes")
        return (self.binary, f"--kubeconfig={self.api.kubeconfig}", *place, *stages)
