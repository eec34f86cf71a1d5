"""Grafana's dashboards: made of their source, with queries that parse and metrics that exist."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.monitoring.make_dashboards import FOLDER, render_all
from tests.deploy.dashboards import Dashboard, dashboards, fill, panels
from tests.deploy.promql import promtool, unknown_metrics
from tests.deploy.recorded import RECORDED

NAMES = {"overview.json", "role.json", "domain.json", "http.json"}
UNITS = {"ops", "reqps", "s", "bytes", "percentunit", "short"}
GRID_WIDTH = 24


def queries(dashboard: Dashboard) -> list[str]:
    """All queries, with Grafana's variables replaced as for `All`."""
    found = [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]
    return [fill(query) for query in found]


def problems(all_dashboards: dict[str, Dashboard]) -> Iterator[str]:
    """What is wrong with the dashboards, but for the syntax of their queries."""
    uids = [dashboard["uid"] for dashboard in all_dashboards.values()]
    if len({*uids}) < len(uids):
        yield f"uids are not unique: {uids}"
    for name, dashboard in all_dashboards.items():
        yield from (f"{name}: {problem}" for problem in _dashboard_problems(dashboard))


def _dashboard_problems(dashboard: Dashboard) -> Iterator[str]:
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    if variables.get("datasource", {}).get("type") != "datasource":
        yield "has no variable for the data source"
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len({*ids}) < len(ids):
        yield "panels share an id"
    cells = [cell for panel in dashboard["panels"] for cell in _cells(panel["gridPos"])]
    if len({*cells}) < len(cells) or max(x for x, _ in cells) >= GRID_WIDTH:
        yield "panels overlap, or leave the grid"
    for panel in panels(dashboard):
        yield from (f"{panel['title']}: {it}" for it in _panel_problems(panel, set(variables)))


def _cells(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(place["x"], place["x"] + place["w"]):
        yield from ((x, y) for y in range(place["y"], place["y"] + place["h"]))


def _panel_problems(panel: dict[str, Any], variables: set[str]) -> Iterator[str]:
    if panel["fieldConfig"]["defaults"]["unit"] not in UNITS:
        yield "has no known unit"
    if panel["datasource"]["uid"] != "${datasource}":
        yield "does not use the data source variable"
    for target in panel["targets"]:
        if target["datasource"]["uid"] != "${datasource}":
            yield "a query does not use the data source variable"
        if not target["legendFormat"]:
            yield "a query has no legend"
        if unknown := unknown_metrics(fill(target["expr"]), RECORDED):
            yield f"nothing has {sorted(unknown)}"
        if undeclared := {*re.findall(r"\$(?!__)(\w+)", target["expr"])} - variables:
            yield f"variables {sorted(undeclared)} are not declared"
        if missing := _labels(target["legendFormat"]) - _labels_left(target["expr"]):
            yield f"the legend's labels {sorted(missing)} are summed away"


def _labels(legend: str) -> set[str]:
    return set(re.findall(r"\{\{(\w+)\}\}", legend))


def _labels_left(query: str) -> set[str]:
    """The labels that the outermost aggregation keeps; those of the legend where there is none."""
    grouped = re.search(r"\bby \(([^)]*)\)", query)
    if grouped:
        return {label.strip() for label in grouped[1].split(",")}
    if re.match(r"(?:sum|max|min|avg|count)\(", query):
        return set()
    return {"instance", "kind", "objective", "domain", "role"}


def test_the_files_are_made_of_their_source() -> None:
    """If not: `python deploy/monitoring/make_dashboards.py`."""
    made = render_all()
    assert made.keys() == NAMES
    for name, contents in made.items():
        assert (FOLDER / name).read_text() == contents, name


def test_the_dashboards_are_complete() -> None:
    assert dashboards().keys() == NAMES
    assert list(problems(dashboards())) == []


def checked_by_promtool(expressions: list[str], folder: Path) -> tuple[bool, str]:
    """Put expressions through `promtool check rules`, each as a recording."""
    recordings = [{"record": f"query{n}", "expr": query} for n, query in enumerate(expressions)]
    path = folder / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recordings}]}))
    return promtool("check", "rules", path)


def test_every_query_parses(tmp_path: Path) -> None:
    everything = [query for dashboard in dashboards().values() for query in queries(dashboard)]
    assert len(everything) > 80
    content, output = checked_by_promtool(everything, tmp_path)
    assert content, output


# Planted faults


def test_a_query_that_does_not_parse_is_told(tmp_path: Path) -> None:
    content, output = checked_by_promtool(["sum by (role (rate(x[1m]))"], tmp_path)
    assert not content
    assert "parse error" in output


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("uid",), "eventfleet-http", "not unique"),
        (("templating", "list"), [], "no variable for the data source"),
        (("panels", 1, "targets", 0, "expr"), "eventfleet_lagg", "eventfleet_lagg"),
        (("panels", 1, "targets", 0, "expr"), 'up{job="$job"}', "job"),
        (("panels", 1, "targets", 0, "legendFormat"), "{{partition}}", "summed away"),
        (("panels", 1, "targets", 0, "legendFormat"), "", "no legend"),
        (("panels", 1, "datasource", "uid"), "prometheus", "data source variable"),
        (("panels", 1, "fieldConfig", "defaults", "unit"), "seconds", "unit"),
        (("panels", 1, "gridPos", "x"), 3, "overlap"),
        (("panels", 2, "id"), 2, "share an id"),
    ],
)
def test_a_planted_fault_is_told(path: tuple[Any, ...], value: Any, told: str) -> None:
    faulty = copy.deepcopy(dashboards())
    at: Any = faulty["overview.json"]
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    assert told in "\n".join(problems(faulty))
