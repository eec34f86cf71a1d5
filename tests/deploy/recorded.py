"""The series that recording rules make."""

from pathlib import Path
from typing import Any

import yaml

from tests.deploy.promql import ROOT

MONITORING = ROOT / "deploy" / "monitoring"
RULES, CASES = MONITORING / "rules", MONITORING / "tests"


def loaded(path: Path) -> dict[str, Any]:
    contents: dict[str, Any] = yaml.safe_load(path.read_text())
    return contents


def rules(kind: str) -> list[dict[str, Any]]:
    """All rules of a kind: `alert` or `record`."""
    groups = [group for path in sorted(RULES.glob("*.yaml")) for group in loaded(path)["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


RECORDED = {rule["record"] for rule in rules("record")}
