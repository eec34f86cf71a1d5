"""Installs the programs that check deploy/ into the user's cache folder, and prints what it does."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from tests.deploy import wheel_programs
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


def say(text: str) -> None:
    print(f"deploy: {text}", flush=True)


def go() -> str:
    """The go command, also where it is installed but not on the PATH."""
    found = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if not found:
        raise Absent("go not found; install Go 1.24 or newer")
    return found


def build_module(program: Path, module: str) -> None:
    """Build a command of a Go module, unless it is there."""
    if program.exists():
        return say(f"{program.name} is in {program.parent}")
    say(f"building {program.name}: about two minutes, once")
    package = module.replace("@", f"/cmd/{program.name}@")
    settings = ("CGO_ENABLED=0", f"GOBIN={program.parent}")
    run("env", *settings, go(), "install", *BUILD_OPTIONS, package)
    return None


def helm() -> None:
    build_module(HELM, HELM_MODULE)


def kubeconform() -> None:
    build_module(KUBECONFORM, KUBECONFORM_MODULE)


def schemas() -> None:
    """Kubernetes' JSON schemas, made strict: a field that a type does not have is refused."""
    if SCHEMAS.is_dir():
        return say(f"Kubernetes' schemas are in {SCHEMAS}")
    SCHEMAS.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCHEMAS.parent) as folder:
        options = ("--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder)
        run(sys.executable, "-m", "pip", "download", *options, SCHEMAS_PACKAGE)
        [wheel] = Path(folder).glob("*.whl")
        made = Path(folder) / "made"
        made.mkdir()
        _write_schemas(wheel, made)
        made.rename(SCHEMAS)
    return say(f"Kubernetes' schemas are in {SCHEMAS}")


def promtool() -> None:
    """Debian's Prometheus, which comes with promtool; it is not left running."""
    need({"promtool": "prometheus", "prometheus": "prometheus"})
    say("promtool is installed")


def hadolint() -> None:
    say(f"hadolint is in {wheel_programs.hadolint().parent}")


def compose() -> None:
    say(f"docker-compose is in {wheel_programs.compose().parent}")


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
            path = folder / schema_name(kind)
            reference = f"{SCHEMAS.as_uri()}/definitions.json#/$defs/{name}"
            path.write_text(json.dumps({"$ref": reference}))


def schema_name(kind: dict[str, Any]) -> str:
    """The file of a kind's schema: kind-group-version.json, all lower case."""
    group = kind["group"].partition(".")[0]
    return "-".join(filter(None, (kind["kind"], group, kind["version"]))).lower() + ".json"


def main() -> int:
    """Install all; status 1 if one is missing in CI. Elsewhere the tests that need it skip."""
    parts: list[Callable[[], None]] = [helm, kubeconform, schemas, promtool, hadolint, compose]
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
