"""A fleet under load whose server is away for minutes: what each process does meanwhile."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

import httpx

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.http_service import HttpService
from tests.acceptance.kafka_by_hand import wait_for
from tests.faults.fleet_oracle import ROUTED
from tests.faults.fleet_supervisor import ROLE_SOURCES, FleetSupervisor, freeze, thaw
from tests.faults.half_done_probe import get, owned_partitions
from tests.faults.services import Servers
from tests.servers.server import Server

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "120"))
SETTLING_SECONDS = min(60.0, OUTAGE_SECONDS / 2)
BEFORE_SECONDS = 20.0
RETURN_SECONDS = 30.0
LOOK_SECONDS = 5.0
BACKLOG_SECONDS = 3.0
STANDSTILL_SECONDS = 60.0

Rates = dict[str, list[float]]


class OutageFleet(CommandFleet):
    """A fleet for the orders, whose workers wait for servers longer than an outage takes.

    Their caches are small enough to be full before it begins, so that whatever grows is no cache.
    """

    COMMAND_SECONDS = 600.0
    """An audit of some hundred thousand events takes minutes."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        settings = {"START_TIMEOUT": str(OUTAGE_SECONDS + 120), "CACHED_AGGREGATES": "1000"}
        super().__init__(servers, folder, "eventfleet.domains.orders", **settings)

    def _remove(self) -> None:
        super()._remove()
        self.kafka.delete(ROUTED)


@dataclass(frozen=True)
class OutageCase:
    """A server that is away.

    `waits` is a role that needs it; a worker of it leaves meanwhile, and another joins. `goes_on`
    are the roles that need nothing of it, with the events a second that still come for each;
    `drains`: such a role whose records come from one that waits. `is_queried`: whether the HTTP
    service answers queries without it.
    """

    name: str
    server: Server
    waits: str
    goes_on: dict[str, float] = field(default_factory=dict)
    drains: str = ""
    is_queried: bool = False


@dataclass
class Outage:
    """What was seen of one outage: sizes by process, relative, and events a second by role."""

    grown: dict[str, float]
    before: dict[str, float]
    during: dict[str, float]
    after: dict[str, float]
    drained: int = 0

    def __str__(self) -> str:
        rates = "; ".join(
            f"{role}: {self.before[role]:.0f} events/s before, {self.during[role]:.0f} during, "
            f"{self.after[role]:.0f} after"
            for role in self.before
        )
        grown = ", ".join(f"{place} {ratio:.3f}" for place, ratio in self.grown.items())
        drained = f"; drained {self.drained:,} records" if self.drained else ""
        return f"{rates}{drained}; largest memory after the first minute: {grown}"


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


class OutageObserver:
    """Leads a fleet and its HTTP service through an outage, and looks at each process."""

    def __init__(self, supervisor: FleetSupervisor, service: HttpService, case: OutageCase) -> None:
        self._supervisor, self._service, self._case = supervisor, service, case
        self._roles = [role for role in ROLE_SOURCES if supervisor.places_of(role)]
        self._joiners_place = f"{case.waits}-joiner"

    def go_through(self) -> Outage:
        """AssertionError: a process ended, is to be restarted, or does not say that it waits."""
        before = self._rates(BEFORE_SECONDS)
        with self._backlog() as backlog:
            self._case.server.kill()
        began = time.monotonic()
        self._wait_for_the_wait()
        self._join()
        self._leave()
        if self._case.drains:
            self._drain()
        self._rates(SETTLING_SECONDS - (time.monotonic() - began))
        sizes = self._sizes()
        largest, during = dict(sizes), self._rates(0)
        while time.monotonic() < began + OUTAGE_SECONDS:
            for role, seen in self._rates(LOOK_SECONDS).items():
                during[role] += seen
            self._look()
            largest = {name: max(size, largest[name]) for name, size in self._sizes().items()}
        self._supervisor.workers[self._joiners_place] = self._joiner_process
        self._case.server.start()
        after = self._rates(RETURN_SECONDS)
        self._wait_for_the_joiner()
        return Outage(
            {name: largest[name] / size for name, size in sizes.items()},
            {role: median(seen) for role, seen in before.items()},
            {role: median(seen) for role, seen in during.items()},
            {role: max(seen) for role, seen in after.items()},
            sum(backlog),
        )

    def catch_up(self) -> None:
        """Wait, as long as the lag falls, until no record waits."""
        lowest, fell = float("inf"), time.monotonic()
        while lag := self._supervisor.metric("lag"):
            if lag < lowest:
                lowest, fell = lag, time.monotonic()
            assert time.monotonic() < fell + STANDSTILL_SECONDS, f"{lag:g} records wait"
            time.sleep(1)

    def _done(self) -> dict[str, float]:
        """The events that each role has handled, by its own counts."""
        return {
            role: sum(
                self._supervisor.workers[place].metric("chunk_records_sum")
                for place in self._supervisor.places_of(role)
            )
            for role in self._roles
        }

    def _rates(self, seconds: float) -> Rates:
        """Events a second by role, one number for each look."""
        seen = [(time.monotonic(), self._done())]
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(LOOK_SECONDS)
            seen.append((time.monotonic(), self._done()))
        return {
            role: [
                (later[role] - earlier[role]) / (end - start)
                for (start, earlier), (end, later) in pairwise(seen)
            ]
            for role in self._roles
        }

    def _processes(self) -> dict[str, int]:
        found = {place: worker.process.pid for place, worker in self._supervisor.workers.items()}
        return {**found, "serve": self._service.process.pid}

    def _sizes(self) -> dict[str, int]:
        return {name: resident_bytes(pid) for name, pid in self._processes().items()}

    # During the outage

    @contextmanager
    def _backlog(self) -> Iterator[list[int]]:
        """Hold the workers of the draining role up, so that records wait for it afterwards.

        One of two leaves before it has done its part: the other one takes that over.
        """
        waiting: list[int] = []
        places = self._supervisor.places_of(self._case.drains) if self._case.drains else []
        workers = [self._supervisor.workers[place] for place in places]
        for worker in workers:
            freeze(worker)
        if workers:
            time.sleep(BACKLOG_SECONDS)
        yield waiting
        if workers:
            waiting.append(len(self._records_to_drain()))
            workers[-1].process.terminate()
        for worker in reversed(workers):
            thaw(worker)
        if workers:
            left = self._supervisor.workers.pop(places[-1])
            assert left.process.wait(60) == 0, left.output()

    def _records_to_drain(self) -> Sequence[object]:
        fleet, role = self._supervisor.fleet, self._case.drains
        return fleet.kafka.waiting(fleet.group(role), fleet.topic(ROLE_SOURCES[role]))

    def _drain(self) -> None:
        wait_for(lambda: not self._records_to_drain(), f"{self._case.drains} to drain its topic")

    def _wait_for_the_wait(self) -> None:
        role = self._case.waits
        worker = self._supervisor.workers[f"{role}-1"]
        wait_for(lambda: " waits: " in get(worker, "/ready")[1], f"{role} to say that it waits")

    def _join(self) -> None:
        """Start a worker, which must say what it waits for."""
        self._joiner_process = joiner = self._supervisor.start(self._joiners_place)
        del self._supervisor.workers[self._joiners_place]
        line = f"{self._case.name} does not answer"
        wait_for(lambda: line in joiner.output(), f"the one that joins to say: {line}")
        assert "tried again (see EVENTFLEET_START_TIMEOUT)" in joiner.output()

    def _leave(self) -> None:
        """Stop a worker that waits: it ends well, and at once."""
        worker = self._supervisor.workers.pop(f"{self._case.waits}-2")
        assert worker.stop() == 0, worker.output()

    def _look(self) -> None:
        """Assert that each process runs and is live, and that those not ready say why."""
        joiner = self._joiner_process
        assert joiner.process.poll() is None, joiner.output()
        for place, worker in self._supervisor.workers.items():
            assert worker.process.poll() is None, worker.output()
            assert get(worker, "/live")[0] == 200, (place, get(worker, "/live")[1])
            role = place.partition("-")[0]
            if role in self._case.goes_on or role == self._case.drains:
                assert worker.ready(), (place, get(worker, "/ready")[1])
        assert not self._supervisor.workers[f"{self._case.waits}-1"].ready()
        self._wait_for_the_wait()
        if self._case.waits == "append":
            fleet = self._supervisor.fleet
            begun = fleet.kafka.open_partitions(fleet.topic("stored"))
            assert not begun, "one who waits has begun it"
        assert self._service.process.poll() is None, self._service.said()
        with httpx.Client(base_url=self._service.url, timeout=30) as client:
            ready = client.get("/ready")
            assert (ready.status_code, self._case.name in ready.text) == (503, True), ready.text
            assert client.get("/live").status_code == 200
            status = client.get("/domains/orders/order-00000/state").status_code
            assert not self._case.is_queried or status in (200, 404), status

    def _wait_for_the_joiner(self) -> None:
        """Wait until the one that has joined does its share."""
        joiner = self._joiner_process
        self._supervisor.wait_until_owned()
        assert owned_partitions(joiner)
        wait_for(lambda: joiner.metric("chunk_records_sum") > 0, "the joiner's first chunk")
        wait_for(self._service.ready, "the service to be ready again")
