"""Makes the dashboards of dashboards.yaml: `python deploy/monitoring/make_dashboards.py`.

Grafana's JSON is mostly layout, the same for each panel: places, ids, data sources, the variables
and links are added here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

SOURCE_FILE = Path(__file__).with_name("dashboards.yaml")
FOLDER = Path(__file__).with_name("dashboards")
SCHEMA_VERSION = 39
"""Grafana 11's; later ones upgrade it when they load it."""

GRID_WIDTH, PANEL_WIDTH, PANEL_HEIGHT = 24, 8, 7
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def render_all() -> dict[str, str]:
    """The contents of each file, by its name."""
    dashboards = yaml.safe_load(SOURCE_FILE.read_text(encoding="utf-8"))
    return {
        f"{name}.json": json.dumps(_dashboard(name, declared), indent=1, ensure_ascii=False) + "\n"
        for name, declared in dashboards.items()
    }


def _dashboard(name: str, declared: dict[str, Any]) -> dict[str, Any]:
    link = {"type": "dashboards", "tags": ["eventfleet"], "title": "eventfleet"}
    return {
        "uid": f"eventfleet-{name}",
        "title": declared["title"],
        "tags": ["eventfleet"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [link | {"asDropdown": True, "includeVars": True, "keepTime": True}],
        "annotations": {"list": [_alert_annotations()]},
        "templating": {"list": list(_variables(declared.get("variables", {})))},
        "panels": list(_panels(declared["rows"])),
    }


def _alert_annotations() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Eventfleet.*", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{domain}} {{role}} {{instance}}",
        "step": "30s",
    }


def _variables(queries: dict[str, str]) -> Iterator[dict[str, Any]]:
    source = {"name": "datasource", "label": "Data source", "type": "datasource"}
    yield source | {"query": "prometheus"}
    for name, query in queries.items():
        yield {
            "name": name,
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": query, "refId": name},
            "definition": query,
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "current": {"text": "All", "value": "$__all"},
        }


def _panels(rows: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """A heading for each row, and its panels from left to right in as many lines as they take."""
    number = y = 0
    for title, panels in rows.items():
        number += 1
        place = {"x": 0, "y": y, "w": GRID_WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": title, "gridPos": place, "panels": []}
        x, y, height = 0, y + 1, 0
        for panel in panels:
            width = panel.get("width", PANEL_WIDTH)
            if x + width > GRID_WIDTH:
                x, y = 0, y + height
            number, height = number + 1, panel.get("height", PANEL_HEIGHT)
            yield _panel(panel, number, {"x": x, "y": y, "w": width, "h": height})
            x += width
        y += height


def _panel(panel: dict[str, Any], number: int, place: dict[str, int]) -> dict[str, Any]:
    kind = panel.get("kind", "timeseries")
    return {
        "id": number,
        "type": kind,
        "title": panel["title"],
        "description": panel.get("description", ""),
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel["unit"], "min": 0}, "overrides": []},
        "options": _options(kind),
        "targets": list(_targets(panel["queries"])),
    }


def _options(kind: str) -> dict[str, Any]:
    if kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value"}
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _targets(queries: dict[str, str]) -> Iterator[dict[str, Any]]:
    for index, (legend, query) in enumerate(queries.items()):
        yield {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "expr": query,
            "legendFormat": legend,
            "range": True,
        }


if __name__ == "__main__":
    for file_name, contents in render_all().items():
        (FOLDER / file_name).write_text(contents, encoding="utf-8")
