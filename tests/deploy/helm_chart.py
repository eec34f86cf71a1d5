"""The Helm chart: its forms, rendered by Helm and checked by kubeconform."""

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.install import HELM, INSTALL_HINT, KUBECONFORM, KUBERNETES_VERSION, SCHEMAS

Object = dict[str, Any]

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "eventfleet"
RELEASE = "fleet"
SECONDS = 60
FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Reads the same as SafeLoader, in a tenth of its time."""
FIXED_OWNERS = ("--set", "workers.form=StatefulSet")

# Every form of the chart that is checked, with the options that make it.
FORMS = {
    "trial": ("--values", str(CHART / "values-trial.yaml")),
    "small": ("--values", str(CHART / "values-small.yaml")),
    "large": ("--values", str(CHART / "values-large.yaml")),
    "fixed owners": ("--values", str(CHART / "values-small.yaml"), *FIXED_OWNERS),
}


class NotRendered(Exception):
    """Helm's error, for values that the chart refuses."""


@cache
def render(*options: str, release: str = RELEASE) -> str:
    """What `helm template` writes, hooks too."""
    command = (str(_installed(HELM)), "template", release, str(CHART), "--include-crds")
    version = ("--kube-version", KUBERNETES_VERSION)
    done = subprocess.run(
        [*command, *version, *options], capture_output=True, text=True, timeout=SECONDS
    )
    if done.returncode:
        raise NotRendered(done.stderr)
    return done.stdout


def objects(*options: str, release: str = RELEASE) -> list[Object]:
    """What `helm template` writes, as objects."""
    documents = yaml.load_all(render(*options, release=release), Loader=FastLoader)
    return [found for found in documents if found]


def of_kind(kind: str, *options: str) -> list[Object]:
    """The rendered objects of a kind."""
    return [found for found in objects(*options) if found["kind"] == kind]


def conforms(manifest: str) -> tuple[bool, str]:
    """Whether a manifest fits Kubernetes' schemas, and kubeconform's summary or complaints.

    Custom resources are skipped: a real API server checks them (`make check-cluster`).
    """
    if not SCHEMAS.is_dir():
        _absent(f"Kubernetes' schemas are not installed: {INSTALL_HINT}")
    location = f"{SCHEMAS}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"
    options = ("-strict", "-summary", "-ignore-missing-schemas", "-schema-location", location)
    done = subprocess.run(
        [str(_installed(KUBECONFORM)), *options],
        input=manifest,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    return done.returncode == 0, done.stdout + done.stderr


def _installed(program: Path) -> Path:
    if not program.exists():
        _absent(f"{program.name} is not installed: {INSTALL_HINT}")
    return program


def _absent(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
