"""The Helm chart, rendered."""

import subprocess
from functools import cache
from pathlib import Path

import yaml

from tests.cluster.cluster import Object
from tests.cluster.install import KUBERNETES_VERSION, program

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "eventfleet"
RELEASE = "fleet"
RENDER_SECONDS = 60
STATEFUL = ("--set", "workers.form=StatefulSet")

# Every form of the chart that is checked, with the options that make it.
FORMS = {
    "trial": ("--values", str(CHART / "values-trial.yaml")),
    "small": ("--values", str(CHART / "values-small.yaml")),
    "large": ("--values", str(CHART / "values-large.yaml")),
    "fixed owners": ("--values", str(CHART / "values-small.yaml"), *STATEFUL),
}


@cache
def render(*options: str) -> str:
    """What `helm template` writes, hooks too."""
    command = (str(program("helm")), "template", RELEASE, str(CHART), "--include-crds")
    version = ("--kube-version", KUBERNETES_VERSION)
    done = subprocess.run(
        (*command, *version, *options), capture_output=True, text=True, timeout=RENDER_SECONDS
    )
    assert not done.returncode, done.stderr
    return done.stdout


def objects(*options: str) -> list[Object]:
    """What `helm template` writes, as objects."""
    return [found for found in yaml.safe_load_all(render(*options)) if found]


def of_kind(kind: str, *options: str) -> list[Object]:
    """The rendered objects of a kind."""
    return [found for found in objects(*options) if found["kind"] == kind]
