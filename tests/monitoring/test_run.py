"""Prometheus watches a real fleet under load: alerts fire and clear, dashboards have data.

`make check-monitoring`, ten minutes; MINUTES=2 tries it without waiting for alerts to end.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.kafka_by_hand import KafkaByHand, NewRecord, wait_for
from tests.conftest import running
from tests.deploy.dashboards import dashboards, fill, panels
from tests.monitoring.command_load import CommandLoad
from tests.monitoring.monitored_fleet import ROOT, MonitoredFleet
from tests.monitoring.picture import draw
from tests.monitoring.prometheus import AlertLog, Prometheus, Series
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB
from tests.servers.redis import Redis

pytestmark = pytest.mark.monitoring

MINUTES = float(os.environ.get("MINUTES", "10"))
FULL_MINUTES = 8.5
"""The faults, and the windows of five minutes behind them, take as long."""

PICTURE = ROOT / "docs" / "images" / "monitoring-overview.png"
SERVER_AWAY = {"EventfleetHttpUnavailable", "EventfleetRetries", "EventfleetServerErrors"}
DEAD_LETTERS = {"EventfleetDeadLetters"}
PARKED = {"EventfleetParked"}
STOPPED = {"EventfleetPartitionStopped"}
FALLING_BEHIND = {"EventfleetLagGrowing"}
KILLED = {"EventfleetTargetDown", "EventfleetRoleWithoutWorkers"}
BUDGET = {"EventfleetCommandsAnsweredLate 1h"}
OF_SPEED = (
    "EventfleetCommandsAnsweredLate",
    "EventfleetEventsStoredLate",
    "EventfleetHttpUnavailable",
    "EventfleetServerSlow",
)
"""Alerts that a busy machine fires by itself: that they are silent at first is not asserted."""
WARM_UP_SECONDS = 30
"""The first seconds of a fleet: caches are empty, and every connection is new."""
OUTAGE_SECONDS = 62
"""Longer than what the slowest of an absent server's alerts waits for."""


class Run:
    """The fleet, its load and Prometheus; the faults, each with its seconds since the start."""

    def __init__(
        self, fleet: MonitoredFleet, prometheus: Prometheus, mongo: MongoDB, kafka: Kafka
    ) -> None:
        self.fleet, self.mongo = fleet, mongo
        self.kafka = KafkaByHand(kafka.address)
        self.alerts = AlertLog(prometheus, self.restart_ended)
        self.faults: dict[str, tuple[float, float]] = {}
        self.restarts: list[str] = []

    def restart_ended(self) -> None:
        """Start again what has ended by itself, as a cluster would."""
        self.restarts += self.fleet.restart_ended()

    @property
    def seconds(self) -> float:
        return time.time() - self.alerts.start

    def expect(self, firing: set[str], gone: set[str], limit: float) -> None:
        self.alerts.wait_until(firing, gone, limit)

    def fault(self, name: str, harm: Callable[[], None]) -> None:
        began = self.seconds
        harm()
        self.faults[name] = began, self.seconds

    # Faults

    def stop_mongodb(self) -> None:
        """Freeze MongoDB for so long that the alerts of an absent server fire."""
        self.mongo.signal(signal.SIGSTOP)
        try:
            self.alerts.wait(OUTAGE_SECONDS)
        finally:
            self.mongo.signal(signal.SIGCONT)
        self.expect(SERVER_AWAY | BUDGET, set(), 60)

    def send_unreadable_record(self) -> None:
        self.kafka.produce([NewRecord("parcels.events", b"p-0", b"no event")])
        self.expect(DEAD_LETTERS, set(), 60)

    def let_evolve_raise(self, meanwhile: Callable[[], None]) -> None:
        """Let the snapshot role park parcels, and more of a partition than it may, and mend it.

        Queries replay the events, too, so the service answers 500.
        """
        switch = self.fleet.folder / "evolve-raises"
        switch.touch()
        self.expect(PARKED | STOPPED, set(), 180)
        meanwhile()
        switch.unlink()
        snapshot = self.fleet.processes["snapshot-1"]
        snapshot.stop()
        snapshot.start()

    def until_the_role_falls_behind(self) -> None:
        self.fault("relay killed", self.kill_relay)
        self.expect(FALLING_BEHIND, set(), 300)

    def kill_relay(self) -> None:
        """Kill the only worker of a role, and start it again once alerts fire."""
        relay = self.fleet.processes["relay-1"]
        relay.kill()
        self.expect(KILLED, set(), 150)
        relay.start()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with (
        running(Kafka) as kafka,
        running(MongoDB) as mongo,
        running(Redis) as redis,
        MonitoredFleet(kafka.address, mongo.url, redis.url, tmp_path) as fleet,
        CommandLoad(f"http://127.0.0.1:{fleet.http_port}", kafka.address) as load,
    ):
        time.sleep(WARM_UP_SECONDS)
        with running(lambda: Prometheus(fleet.targets())) as prometheus:
            made = Run(fleet, prometheus, mongo, kafka)
            yield made
            print("\n" + "\n".join(made.alerts.lines()))
            print(f"faults: {made.faults}; ended by themselves: {made.restarts}")
        load.check()
        print(f"\nHTTP answers: {dict(load.answers)}; commands by topic: {load.produced}")


def test_alerts_fire_and_clear_and_every_panel_has_data(run: Run) -> None:
    """A healthy fleet alerts nobody; each fault does, and is over when it is mended."""
    targets = len(run.fleet.processes)
    prometheus = run.alerts.prometheus
    wait_for(lambda: sum(prometheus.targets_up().values()) == targets, "all targets to be up")
    full = MINUTES >= FULL_MINUTES
    run.alerts.wait(60 if full else 20)
    fired = [name for name in run.alerts.spans if not name.startswith(OF_SPEED)]
    assert not fired, "alerts fire in a healthy fleet"
    try:
        _harm(run, full)
        run.alerts.wait(MINUTES * 60 - run.seconds)
    finally:
        values = panel_values(prometheus, run.alerts.start)
        if find_spec("matplotlib") and full:
            drawn = [each for each in values["overview.json"] if each[0]["type"] != "stat"]
            PICTURE.parent.mkdir(exist_ok=True)
            draw(drawn, run.faults, run.alerts.start, PICTURE)
    if full:
        _check_data(values)
    _check_audit(run)


def _harm(run: Run, full: bool) -> None:
    """One fault after the other; their alerts fire, and end when they are mended."""
    if full:
        run.fault("MongoDB frozen", run.stop_mongodb)
    run.fault("unreadable record", run.send_unreadable_record)
    if not full:
        run.fault("evolve raises", lambda: run.let_evolve_raise(lambda: None))
        return run.expect(set(), PARKED | STOPPED, 90)
    run.fault("evolve raises", lambda: run.let_evolve_raise(run.until_the_role_falls_behind))
    run.expect(set(), PARKED | STOPPED | FALLING_BEHIND | KILLED, 120)
    slow = {name for name in SERVER_AWAY if name.startswith(OF_SPEED)}
    return run.expect(set(), SERVER_AWAY - slow | DEAD_LETTERS, 360)


Values = dict[str, list[tuple[dict[str, Any], list[tuple[str, list[Series]]]]]]


def panel_values(prometheus: Prometheus, start: float) -> Values:
    """For each dashboard its panels, with the series of each query of the run."""
    end = time.time()
    return {
        name: [
            (
                panel,
                [
                    (each["legendFormat"], prometheus.range(fill(each["expr"]), start, end))
                    for each in panel["targets"]
                ],
            )
            for panel in panels(dashboard)
        ]
        for name, dashboard in dashboards().items()
    }


def _check_data(values: Values) -> None:
    empty = [
        f"{name}, {panel['title']}: {legend}"
        for name, of_dashboard in values.items()
        for panel, found in of_dashboard
        for legend, series in found
        if not series
    ]
    assert not empty, "queries without data:\n" + "\n".join(empty)


def _check_audit(run: Run) -> None:
    """Nothing is lost or doubled by what was done to the fleet."""
    reports = run.fleet.audit()
    assert {report["domain"] for report in reports} == {"parcels", "bank"}
    assert not [violation for report in reports for violation in report["violations"]]
