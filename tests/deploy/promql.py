"""PromQL in our files: the metrics that an expression names, and Debian's promtool."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
METRICS_PAGE = ROOT / "docs" / "metrics.md"
PROMTOOL_SECONDS = 120

OF_OTHERS = frozenset({"up", "ALERTS", "kube_pod_container_resource_limits"})
"""Metrics of Prometheus itself and of kube-state-metrics."""

KEYWORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_LABELS = re.compile(r"\{[^{}]*\}|\[[^\[\]]*\]")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\b(?:\s*\([^()]*\))?")
_NAME = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?![\w:]*\s*\()")
_SUFFIX = re.compile(r"_(?:total|bucket|count|sum|created)$")


def metric_names(expression: str) -> set[str]:
    """The metrics that an expression reads."""
    for pattern in (_STRING, _LABELS, _GROUPING):
        expression = pattern.sub(" ", expression)
    return {name for name in _NAME.findall(expression) if name not in KEYWORDS}


def unknown_metrics(expression: str, recorded: Iterable[str] = ()) -> set[str]:
    """The metrics of an expression that neither the code has nor a rule records."""
    known = known_metrics()
    return {
        name
        for name in metric_names(expression) - OF_OTHERS - set(recorded)
        if name not in known and _SUFFIX.sub("", name) not in known
    }


def known_metrics() -> set[str]:
    """The metrics that the page made from the code lists, with and without their suffixes."""
    names = set(re.findall(r"`((?:eventfleet|process)_\w+)", METRICS_PAGE.read_text()))
    return names | {_SUFFIX.sub("", name) for name in names}


def promtool(*arguments: str | Path, cwd: Path | None = None) -> tuple[bool, str]:
    """Whether promtool is content, and what it prints."""
    program = shutil.which("promtool")
    if program is None:
        reason = "promtool is not installed: python -m tests.deploy.install"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run(
        [program, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PROMTOOL_SECONDS,
    )
    return done.returncode == 0, done.stdout + done.stderr
