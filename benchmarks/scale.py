"""`python -m benchmarks.scale`: one role in 1, 2 and 4 workers over eight partitions.

What they stored is audited. Processor time is that of all workers of the role, from when all of
them work until everything is committed.
"""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import click
from rich.console import Console
from rich.table import Table

from benchmarks import data
from benchmarks.scenario import Servers
from benchmarks.servers import servers
from eventfleet.runtime.settings import PREFIX, Settings
from tests.acceptance.fleet import ROOT, SOURCES, Fleet, Worker
from tests.acceptance.kafka_by_hand import wait_for

PARTITIONS = 8
WORKERS = (1, 2, 4)
ROLES = ("append", "relay")
MODULE = "from benchmarks.data import ledger\naccounts = ledger('accounts')\n"
TICKS = os.sysconf("SC_CLK_TCK")


class Took(NamedTuple):
    """Events from when all workers were ready, seconds until the last commit, and the processor
    seconds of all workers in that time."""

    events: int
    seconds: float
    cpu: float


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--events", envvar="EVENTS", default=100_000, show_default=True)
def main(events: int) -> None:
    """Measure append and relay; status 1 when an audit is not clean."""
    table = Table("role", "workers", "events/s", "CPU us an event", "audit")
    clean = True
    with servers() as places:
        for workers in WORKERS:
            with TemporaryDirectory(prefix="eventfleet-scale-") as folder:
                took, whole = _measured(places, Path(folder), events, workers)
            clean = clean and whole
            for role in ROLES:
                passed, seconds, cpu = took[role]
                speed, cost = passed / seconds, cpu / passed * 1e6
                verdict = "clean" if whole else "NOT CLEAN"
                table.add_row(role, str(workers), f"{speed:,.0f}", f"{cost:.1f}", verdict)
    Console(highlight=False).print(table)
    raise SystemExit(not clean)


def _measured(
    places: Servers, folder: Path, events: int, workers: int
) -> tuple[dict[str, Took], bool]:
    (folder / "accounts.py").write_text(MODULE)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(folder)])
    sys.path.insert(0, str(folder))
    with Fleet(places.kafka, places.mongo_url, folder, "accounts", PARTITIONS) as fleet:
        asyncio.run(data.produce_events(_settings(fleet), "accounts", _placed(events)))
        took = {role: _through(fleet, role, workers, events) for role in ROLES}
        _, report = fleet.audit()
        return took, bool(report["clean"]) and report["stored"] == events


def _placed(events: int) -> data.Placed:
    return data.made("accounts", data.Amount(events, events // 20, PARTITIONS))


def _settings(fleet: Fleet) -> Settings:
    named = {name.removeprefix(PREFIX).lower(): v for name, v in fleet.environment.items()}
    return Settings(**{k: v for k, v in named.items() if k in Settings.model_fields})  # type: ignore[arg-type]


def _through(fleet: Fleet, role: str, workers: int, events: int) -> Took:
    """Start them, and wait from when all work until their group has passed everything."""
    group, topic = fleet.group(role), fleet.topic(SOURCES[role])

    def far() -> int:
        return sum(fleet.kafka.offsets(group, topic).values())

    def passed() -> bool:
        return far() >= events and not fleet.kafka.waiting(group, topic)

    team = fleet.start(*[role] * workers)
    ahead, before, began = far(), _cpu(team), time.monotonic()
    wait_for(passed, f"{role} to pass {events} events")
    took = Took(events - ahead, time.monotonic() - began, _cpu(team) - before)
    for worker in team:
        worker.stop()
    return took


def _cpu(workers: Sequence[Worker]) -> float:
    """Processor seconds, user and system, so far."""
    fields = [
        Path(f"/proc/{w.process.pid}/stat").read_text().rpartition(")")[2].split() for w in workers
    ]
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS


if __name__ == "__main__":
    main()
