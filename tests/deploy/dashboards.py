"""The dashboards, and the expressions of their panels."""

import json
import re
from typing import Any

from deploy.monitoring.make_dashboards import FOLDER

Dashboard = dict[str, Any]


def dashboards() -> dict[str, Dashboard]:
    return {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(dashboard: Dashboard) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def fill(query: str) -> str:
    """The query that Grafana sends where each variable is `All`."""
    return re.sub(r"\$(?!__)\w+", ".+", query.replace("$__rate_interval", "1m"))
