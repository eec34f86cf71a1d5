"""The rules of Prometheus: valid, tested by promtool, each alert with its runbook."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.promql import METRICS_PAGE, ROOT, metric_names, promtool, unknown_metrics
from tests.deploy.recorded import CASES, RECORDED, RULES, loaded, rules

HEALTHY = CASES / "healthy.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"
RUNBOOK_LIST = RUNBOOKS / "README.md"
SEVERITIES = {"page", "ticket"}
ANNOTATIONS = {"summary", "description", "runbook_url"}
HEADINGS = [
    "Meaning",
    "First look",
    "Likely causes",
    "What to do",
    "How to know that it is over",
]
BUCKET = re.compile(r'(\w+)_bucket\{[^{}]*(?:\{[^{}]*\}[^{}]*)*le="([^"]+)"')
LISTED_ALERT = re.compile(r"^\| \[(\w+)\]\((\w+)\.md\) \| ([\w, ]+) \|", re.MULTILINE)
LEADING_NAME = re.compile(r"[^{]*")


ALERTS = rules("alert")


def problems(alert: dict[str, Any]) -> Iterator[str]:
    """What an alert lacks."""
    name, annotations = alert["alert"], alert.get("annotations", {})
    if not re.fullmatch(r"Eventfleet([A-Z][a-z0-9]+)+", name):
        yield f"{name}: is not named Eventfleet..., in PascalCase"
    if alert.get("labels", {}).get("severity") not in SEVERITIES:
        yield f"{name}: has no severity of {sorted(SEVERITIES)}"
    if missing := ANNOTATIONS - annotations.keys():
        yield f"{name}: lacks {sorted(missing)}"
    if unknown := unknown_metrics(alert["expr"], RECORDED):
        yield f"{name}: nothing has {sorted(unknown)}"
    page = ROOT / annotations.get("runbook_url", "none")
    if page.name != f"{name}.md" or not page.is_file():
        yield f"{name}: its runbook {annotations.get('runbook_url')} is not there"
    elif (headings := re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE)) != HEADINGS:
        yield f"{name}: the headings of its runbook are {headings}"


def asserted(path: Path, silent: bool) -> set[str]:
    """The alerts that a file of promtool tests expects to fire, or to be silent."""
    cases = [case for test in loaded(path)["tests"] for case in test["alert_rule_test"]]
    return {case["alertname"] for case in cases if silent is not bool(case["exp_alerts"])}


def test_the_rules_are_valid() -> None:
    content, output = promtool("check", "rules", *sorted(RULES.glob("*.yaml")))
    assert content, output


@pytest.mark.parametrize("path", sorted(CASES.glob("*.yaml")), ids=lambda path: path.stem)
def test_alerts_fire_in_their_case_alone(path: Path) -> None:
    content, output = promtool("test", "rules", path.name, cwd=CASES)
    assert content, output


def test_each_alert_is_complete() -> None:
    assert len(ALERTS) > 30
    assert [problem for alert in ALERTS for problem in problems(alert)] == []


def test_each_alert_has_a_case_and_is_silent_in_the_healthy_one() -> None:
    names = {alert["alert"] for alert in ALERTS}
    firing = set().union(*(asserted(p, silent=False) for p in CASES.glob("*.yaml")))
    assert names == firing == asserted(HEALTHY, silent=True)
    assert not asserted(HEALTHY, silent=False)


def test_each_window_and_objective_of_a_burn_alert_fires() -> None:
    fired = {
        (case["alertname"], alert["exp_labels"]["severity"], alert["exp_labels"]["window"])
        for test in loaded(CASES / "budgets.yaml")["tests"]
        for case in test["alert_rule_test"]
        for alert in case["exp_alerts"]
    }
    declared = {
        (alert["alert"], *(alert["labels"][label] for label in ("severity", "window")))
        for alert in ALERTS
        if "window" in alert["labels"]
    }
    assert fired == declared
    assert len(declared) == 8


def test_the_healthy_fleet_has_every_metric_that_alerts_read() -> None:
    """Where a metric is missing, silence proves nothing."""
    [healthy] = loaded(HEALTHY)["tests"]
    series = {LEADING_NAME.match(each["series"])[0] for each in healthy["input_series"]}  # type: ignore[index]
    everything = [rule["expr"] for rule in [*ALERTS, *rules("record")]]
    read = set().union(*map(metric_names, everything)) - RECORDED
    assert read == series


def test_bounds_in_seconds_are_bounds_of_buckets() -> None:
    """A bucket that is not there would miss its objective always, or never."""
    selectors = [s for rule in rules("record") for s in BUCKET.findall(rule["expr"])]
    assert len(selectors) == 3
    page = METRICS_PAGE.read_text()
    for histogram, bound in selectors:
        [bounds] = re.findall(rf"^\| `{histogram}` \| ([\d., ]+) \|$", page, re.MULTILINE)
        assert bound in bounds.split(", "), f"{histogram} has no bucket of {bound}"


def test_each_recording_reads_metrics_that_exist() -> None:
    unknown = {rule["record"]: unknown_metrics(rule["expr"], RECORDED) for rule in rules("record")}
    assert not {record: names for record, names in unknown.items() if names}


def test_runbooks_are_those_of_alerts() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == {alert["alert"] for alert in ALERTS}
    listed = re.findall(
        r"^\| \[(\w+)\]\((\w+)\.md\) \| ([\w, ]+) \|", RUNBOOK_LIST.read_text(), re.M
    )
    assert {(name, page) for name, page, _ in listed} == {(name, name) for name in pages}
    severities = {name: set(severity.split(", ")) for name, _, severity in listed}
    for alert in ALERTS:
        assert alert["labels"]["severity"] in severities[alert["alert"]], alert["alert"]


def test_links_of_runbooks_lead_to_pages() -> None:
    for page in RUNBOOKS.glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"


def test_metrics_in_runbooks_exist() -> None:
    for page in RUNBOOKS.glob("*.md"):
        blocks = re.findall(r"```promql\n(.*?)```", page.read_text(), re.DOTALL)
        for query in "".join(blocks).splitlines():
            assert not unknown_metrics(query, RECORDED), f"{page.name}: {query}"


# Planted faults


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"expr": "eventfleet_stoped == 1"}, "eventfleet_stoped"),
        ({"expr": "rate(eventfleet_stored_bytes_total[5m]) > 1"}, "eventfleet_stored_bytes_total"),
        ({"labels": {"severity": "fatal"}}, "severity"),
        ({"annotations": {"summary": "s", "runbook_url": "docs/runbooks/None.md"}}, "description"),
        ({"annotations": {"runbook_url": "docs/runbooks/None.md"}}, "is not there"),
        ({"annotations": {"runbook_url": "docs/runbooks/README.md"}}, "is not there"),
        ({"alert": "Eventfleet_stopped"}, "PascalCase"),
    ],
)
def test_a_planted_fault_in_an_alert_is_told(fault: dict[str, Any], told: str) -> None:
    assert told in "\n".join(problems(ALERTS[0] | fault))


def altered(folder: Path, name: str, old: str, new: str) -> Path:
    """A copy of the rules and tests with one text of a rule file altered; the tests' folder."""
    shutil.copytree(RULES, folder / "rules")
    shutil.copytree(CASES, folder / "tests")
    path = folder / "rules" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return folder / "tests"


@pytest.mark.parametrize(
    ("case", "name", "old", "new"),
    [
        pytest.param("workers", "workers.yaml", "[10m])) > 5", "[10m])) > 50", id="too high"),
        pytest.param("healthy", "workers.yaml", "[10m])) > 3", "[10m])) > 0", id="too low"),
        pytest.param("http", "recordings.yaml", 'status="429"', 'status="409"', id="label"),
    ],
)
def test_a_planted_fault_in_a_rule_fails_its_case(
    tmp_path: Path, case: str, name: str, old: str, new: str
) -> None:
    content, output = promtool(
        "test", "rules", f"{case}.yaml", cwd=altered(tmp_path, name, old, new)
    )
    assert not content
    assert "FAILED" in output


def test_a_rule_that_is_no_promql_is_refused(tmp_path: Path) -> None:
    altered(tmp_path, "workers.yaml", "unless eventfleet_stopped == 1", "unless (")
    content, output = promtool("check", "rules", tmp_path / "rules" / "workers.yaml")
    assert not content
    assert "parse error" in output
