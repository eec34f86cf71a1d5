"""Debian's Prometheus, with our rules, scraping the processes of a fleet."""

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from tests.servers.install import Absent
from tests.servers.server import Server

RULES = Path(__file__).parents[2] / "deploy" / "monitoring" / "rules"
INTERVAL_SECONDS = 5
QUERY_SECONDS = 30


class Series(NamedTuple):
    """The values of one series: its labels, and pairs of a time and a value."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


class Prometheus(Server):
    """Scrapes addresses each INTERVAL_SECONDS, and evaluates our rules as often."""

    name = "prometheus"

    def __init__(self, targets: Mapping[str, Sequence[str]]) -> None:
        """`targets`: the addresses of each job."""
        if not shutil.which("prometheus"):
            raise Absent("prometheus is not installed: apt-get install prometheus")
        super().__init__()
        interval = f"{INTERVAL_SECONDS}s"
        jobs = [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]}
            for job, addresses in targets.items()
        ]
        config = {
            "global": {"scrape_interval": interval, "evaluation_interval": interval},
            "rule_files": [f"{RULES}/*.yaml"],
            "scrape_configs": jobs,
        }
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(config))

    def command(self) -> Sequence[str | Path]:
        return (
            "prometheus",
            f"--config.file={self.folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
        )

    def ready(self) -> bool:
        try:
            with urlopen(f"http://{self.address}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def targets_up(self) -> dict[str, bool]:
        """Whether each target answers, by its address."""
        found = self._get("query", query="up")["result"]
        return {each["metric"]["instance"]: each["value"][1] == "1" for each in found}

    def firing(self) -> set[str]:
        """The alerts that fire now; one of several windows has the window behind its name."""
        alerts = self._get("alerts")["alerts"]
        return {_full_name(each["labels"]) for each in alerts if each["state"] == "firing"}

    def range(self, query: str, start: float, end: float) -> list[Series]:
        """The values of a query from `start` to `end`, without what is no number."""
        answer = self._get("query_range", query=query, start=start, end=end, step=INTERVAL_SECONDS)
        series = [
            Series(
                each["metric"],
                [(at, float(value)) for at, value in each["values"] if math.isfinite(float(value))],
            )
            for each in answer["result"]
        ]
        return [each for each in series if each.points]

    def _get(self, path: str, **parameters: Any) -> Any:
        url = f"http://{self.address}/api/v1/{path}?{urlencode(parameters)}"
        with urlopen(url, timeout=QUERY_SECONDS) as answer:
            return json.load(answer)["data"]


def _full_name(labels: Mapping[str, str]) -> str:
    name, window = labels["alertname"], labels.get("window")
    return f"{name} {window}" if window else name


class AlertLog:
    """When each alert began to fire and ended, in seconds since the run's start."""

    def __init__(self, prometheus: Prometheus, supervise: Callable[[], object]) -> None:
        """`supervise` is called at each look."""
        self._supervise = supervise
        self.prometheus, self.start = prometheus, time.time()
        self.spans: dict[str, list[list[float]]] = {}
        self._firing: set[str] = set()

    def look(self) -> set[str]:
        """Note what fires now."""
        self._supervise()
        now, at = self.prometheus.firing(), time.time() - self.start
        for name in now - self._firing:
            self.spans.setdefault(name, []).append([at, math.inf])
        for name in self._firing - now:
            self.spans[name][-1][1] = at
        self._firing = now
        return now

    def wait(self, seconds: float) -> None:
        """Let some time pass."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(1)

    def wait_until(self, firing: set[str], gone: set[str], limit: float) -> None:
        """Wait until alerts fire, and others do not. AssertionError after `limit` seconds."""
        end = time.monotonic() + limit
        while not (firing <= (now := self.look()) and not gone & now):
            missing, left = sorted(firing - now), sorted(gone & now)
            assert time.monotonic() < end, f"do not fire: {missing}; still fire: {left}"
            time.sleep(1)

    def lines(self) -> list[str]:
        """A line for each alert: its name, when it fired and when it ended."""
        return [
            f"{name:<34} {', '.join(_span(span) for span in spans)}"
            for name, spans in sorted(self.spans.items(), key=lambda each: each[1][0][0])
        ]


def _span(span: Sequence[float]) -> str:
    begin, end = span
    return f"{_clock(begin)} to {_clock(end) if math.isfinite(end) else 'the end'}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
