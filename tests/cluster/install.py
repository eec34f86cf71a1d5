"""Installs the Kubernetes servers of `make check-cluster` into the user's cache folder."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.deploy.install import BUILD_OPTIONS, HELM, build_module, go, helm
from tests.servers.install import CACHE, Absent, need, run

KUBERNETES_VERSION = "1.34.2"
KUBERNETES = CACHE / f"kubernetes-{KUBERNETES_VERSION}"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
KWOK_MODULE = "sigs.k8s.io/kwok@v0.8.0"
KWOK = CACHE / "kwok-0.8.0" / "kwok"
DEFINITIONS = {
    "github.com/kedacore/keda/v2@v2.20.2": "config/crd/bases",
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": "example/prometheus-operator-crd",
}
STAGES = ("pod/fast", "node/fast", "node/heartbeat-with-lease")
MODULE_SECONDS = 300
INSTALL_HINT = "python -m tests.cluster.install"


def say(text: str) -> None:
    print(f"cluster: {text}", flush=True)


def program(name: str) -> Path:
    """An installed program of Kubernetes, kwok or helm."""
    path = {"kwok": KWOK, "helm": HELM}.get(name, KUBERNETES / name)
    if not path.exists():
        raise Absent(f"{name} is not installed: {INSTALL_HINT}")
    return path


def module_folder(module: str) -> Path:
    """The sources of a Go module, downloaded at first and checked by its hash."""
    command = [go(), "mod", "download", "-json", module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MODULE_SECONDS)
    found = json.loads(done.stdout or "{}")
    if done.returncode:
        raise Absent(f"{module} can't be downloaded: {found.get('Error') or done.stderr}")
    return Path(found["Dir"])


def definition_files() -> list[Path]:
    """The custom resource definitions of KEDA and of the Prometheus operator."""
    folders = [module_folder(module) / path for module, path in DEFINITIONS.items()]
    return [file for folder in folders for file in sorted(folder.glob("*_*.yaml"))]


def stage_files() -> list[Path]:
    """What kwok makes of nodes and pods: ready at once, jobs complete."""
    folder = module_folder(KWOK_MODULE) / "kustomize" / "stage"
    files = [file for stage in STAGES for file in sorted((folder / stage).glob("*.yaml"))]
    return [file for file in files if file.name != "kustomization.yaml"]


def etcd() -> None:
    need({"etcd": "etcd-server"})
    say("etcd is installed")


def kubernetes() -> None:
    missing = [name for name in PROGRAMS if not (KUBERNETES / name).exists()]
    if not missing:
        return say(f"Kubernetes {KUBERNETES_VERSION} is in {KUBERNETES}")
    say(f"building {', '.join(missing)} {KUBERNETES_VERSION}: ten minutes or more, once")
    KUBERNETES.mkdir(parents=True, exist_ok=True)
    for name in missing:
        _build(name)
    return None


def kwok() -> None:
    build_module(KWOK, KWOK_MODULE)


def definitions() -> None:
    say(f"{len(definition_files())} custom resource definitions are downloaded")


def _build(name: str) -> None:
    """Build a program of Kubernetes under another name, and give it its own when it is whole."""
    major, minor, _ = KUBERNETES_VERSION.split(".")
    version = {"gitVersion": f"v{KUBERNETES_VERSION}", "gitMajor": major, "gitMinor": minor}
    variables = (
        f"-X k8s.io/component-base/version.{key}={value}" for key, value in version.items()
    )
    unfinished = KUBERNETES / f"{name}.{os.getpid()}"
    options = ("-ldflags", " ".join(("-s -w", *variables)), "-o", str(unfinished))
    what = f"k8s.io/kubernetes/cmd/{name}"
    sources = Path(__file__).with_name("kubernetes")
    run("env", "CGO_ENABLED=0", go(), "build", *BUILD_OPTIONS, *options, what, cwd=sources)
    unfinished.rename(KUBERNETES / name)


def main() -> int:
    """Install all; status 1 if one is missing in CI. Elsewhere the tests that need it skip."""
    parts: list[Callable[[], None]] = [etcd, kubernetes, kwok, helm, definitions]
    absent = 0
    for part in parts:
        try:
            part()
        except (Absent, OSError, subprocess.TimeoutExpired) as error:
            absent += 1
            say(f"{part.__name__} can't be had: {error}")
    return int(absent > 0 and os.environ.get("CI") == "true")


if __name__ == "__main__":
    sys.exit(main())
