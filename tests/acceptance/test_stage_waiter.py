"""Waiting for a stage, on a fleet of real processes and servers."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from eventfleet.deciders.outcomes import Accepted, Rejected, Repeated
from eventfleet.runtime import connections
from eventfleet.runtime.event_services import event_service_over, stage_waiters
from eventfleet.service.event_service import EventService
from eventfleet.service.stage_waiter import WaitResult
from eventfleet.states.querier import Querier
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import Stage
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import Worker
from tests.acceptance.kafka_by_hand import wait_for
from tests.conftest import running
from tests.servers.redis import Redis

MODULE = """
from eventfleet.model.command_rules import Emits
from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Event, State
from eventfleet.snapshot_rules import every


class Written(Event):
    text: str


class Filed(Event):
    pass


class Slip(State):
    events: int = 0


def evolve(slip, event):
    return Slip(slip.events + 1)


class Write(Command):
    text: str


class File(Command):
    pass


slips = Domain(
    "slips",
    state=Slip,
    evolve=evolve,
    events=[Written, Filed],
    commands=[Emits(Write, Written), Emits(File, Filed)],
    snapshot=every(2),
    routes=[Route("archive.slips", types=frozenset({Filed}))],
)
"""
PATIENT = 60.0
WRITE = {"text": "dear all"}
_slips = count(1)


class WaitingService(NamedTuple):
    """One instance of the service, and a querier with connections of its own."""

    service: EventService[Any]
    querier: Querier[Any]


class WaitingFleet(CommandFleet):
    """With a Redis of its own, and three workers, each of one role."""

    def __init__(self, servers: Any, folder: Path, module: str, redis: Redis) -> None:
        super().__init__((*servers, redis.url), folder, module)
        self.server = redis
        self.roles: dict[str, Worker] = {}

    def __exit__(self, *_: object) -> None:
        for worker in self.roles.values():
            worker.process.send_signal(signal.SIGCONT)
        super().__exit__(*_)

    def start_all(self) -> None:
        names = ("append", "snapshot", "relay")
        self.roles = dict(zip(names, self.start(*names), strict=True))

    def told(self, role: str, at_least: float) -> None:
        """The role has told so many notices, or does so now."""
        worker = self.roles[role]
        wait_for(lambda: worker.metric("notices_total") >= at_least, f"notices of {role}")

    @asynccontextmanager
    async def desk(self) -> AsyncIterator[WaitingService]:
        domains = connections.select_domains(self.settings, [self.domain])
        domain = domains[self.domain]
        async with (
            connections.stores(self.settings, domains) as theirs,
            connections.stores(self.settings, domains) as mine,
            stage_waiters(self.settings) as waiters,
        ):
            querier = Querier(domain, mine[domain.name], SystemClock())
            opened = theirs[domain.name]
            opening = event_service_over(self.settings, domain, opened, querier, waiters)
            async with opening as service:
                yield WaitingService(service, querier)


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with running(Redis) as server:
        yield server


@pytest.fixture(scope="module")
def fleet(
    kafka: str, mongo_url: str, server: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WaitingFleet]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "slips.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    with WaitingFleet((kafka, mongo_url), folder, "slips", server) as fleet:
        fleet.start_all()
        yield fleet
    sys.path.remove(str(folder))


@pytest.fixture
def slip() -> str:
    return f"slip-{next(_slips)}"


async def write(
    desk: WaitingService, slip: str, stage: Stage, command: str = "Write", **more: Any
) -> WaitResult:
    data = WRITE if command == "Write" else {}
    more = {"patience": PATIENT} | more
    return await desk.service.send(slip, command, data, wait=stage, **more)


def logged(fleet: WaitingFleet, slip: str, count: int) -> bool:
    """Whether the stream has so many records of it."""
    keys = [record.key for record in fleet.kafka.records("slips.events")]
    return keys.count(slip.encode()) == count


async def read(desk: WaitingService, slip: str) -> list[str]:
    return [event.id async for event in desk.querier.events(slip)]


async def test_a_query_after_appended_sees_the_event_each_time(fleet: WaitingFleet) -> None:
    before = fleet.roles["append"].metric("notices_total")
    async with fleet.desk() as desk:

        async def caller(name: str) -> None:
            for number in range(1, 26):
                waited = await write(desk, name, Stage.APPENDED)
                assert isinstance(waited.outcome, Accepted)
                assert waited.stage is Stage.APPENDED
                seen = await read(desk, name)
                assert seen[-1:] == [waited.outcome.event_id]
                assert len(seen) == number

        await asyncio.gather(*(caller(f"many-{n}") for n in range(20)))
    await asyncio.to_thread(fleet.told, "append", before + 500)


async def test_after_snapshotted_a_snapshot_that_was_due_is_there(
    fleet: WaitingFleet, slip: str
) -> None:
    """And where none was due the answer comes as well."""
    async with fleet.desk() as desk:
        for number in range(1, 21):
            assert (await write(desk, slip, Stage.SNAPSHOTTED)).stage is Stage.SNAPSHOTTED
            snapshot = await desk.querier.snapshot(slip)
            assert (snapshot.version if snapshot else 0) == number // 2 * 2


async def test_after_relayed_the_routes_have_the_event(fleet: WaitingFleet, slip: str) -> None:
    """And where no route matched the answer comes as well."""
    async with fleet.desk() as desk:
        for command in ("Write", "File", "Write", "File"):
            waited = await write(desk, slip, Stage.RELAYED, command)
            assert waited.stage is Stage.RELAYED
            assert isinstance(waited.outcome, Accepted)
            routed = await asyncio.to_thread(fleet.kafka.records, "archive.slips")
            found = [r for r in routed if waited.outcome.event_id.encode() in r.value]
            assert len(found) == (command == "File")


async def test_a_repeat_is_readable_at_once(fleet: WaitingFleet, slip: str) -> None:
    async with fleet.desk() as desk, fleet.desk() as other:
        await write(desk, slip, Stage.APPENDED, command_id="c")
        waited = await write(other, slip, Stage.APPENDED, command_id="c")
        assert isinstance(waited.outcome, Repeated)
        assert waited.stage is Stage.APPENDED


async def test_a_repeat_that_append_drops_is_told_too(fleet: WaitingFleet, slip: str) -> None:
    """Two services accept one command before either's event is stored."""
    append, before = fleet.roles["append"].process, fleet.roles["append"].metric("notices_total")
    async with fleet.desk() as desk, fleet.desk() as other:
        append.send_signal(signal.SIGSTOP)
        try:
            waits = [
                asyncio.create_task(write(each, slip, Stage.APPENDED, command_id="c"))
                for each in (desk, other)
            ]
            both = partial(logged, fleet, slip, 2)
            await asyncio.to_thread(wait_for, both, "both to be accepted")
        finally:
            append.send_signal(signal.SIGCONT)
        found = await asyncio.gather(*waits)
        assert [(type(w.outcome), w.stage) for w in found] == [(Accepted, Stage.APPENDED)] * 2
        assert len(await read(desk, slip)) == 1
    await asyncio.to_thread(fleet.told, "append", before + 2)


async def test_when_time_is_up_the_outcome_comes_with_the_last_stage(
    fleet: WaitingFleet, slip: str
) -> None:
    append, relay = (fleet.roles[role].process for role in ("append", "relay"))
    async with fleet.desk() as desk:
        relay.send_signal(signal.SIGSTOP)
        try:
            assert (await write(desk, slip, Stage.RELAYED, patience=3)).stage is Stage.APPENDED
            append.send_signal(signal.SIGSTOP)
            try:
                waited = await write(desk, slip, Stage.RELAYED, patience=1)
                assert isinstance(waited.outcome, Accepted)
                assert waited.stage is Stage.ACCEPTED
            finally:
                append.send_signal(signal.SIGCONT)
        finally:
            relay.send_signal(signal.SIGCONT)
        assert (await write(desk, slip, Stage.RELAYED)).stage is Stage.RELAYED


async def test_a_notice_that_is_lost_leaves_outcome_and_last_stage(
    fleet: WaitingFleet, slip: str
) -> None:
    """Redis is restarted between the command and its notice; later ones are told again."""
    snapshot = fleet.roles["snapshot"]
    async with fleet.desk() as desk:
        await write(desk, slip, Stage.SNAPSHOTTED)
        lost = snapshot.metric("notices_lost_total")
        snapshot.process.send_signal(signal.SIGSTOP)
        try:
            waiting = asyncio.create_task(write(desk, slip, Stage.SNAPSHOTTED, patience=6))
            await asyncio.to_thread(
                wait_for,
                lambda: fleet.events.count_documents({"aggregate_id": slip}) == 2,
                "append",
            )
            fleet.server.kill()
        finally:
            snapshot.process.send_signal(signal.SIGCONT)
        await asyncio.to_thread(
            wait_for, lambda: snapshot.metric("notices_lost_total") > lost, "a notice to be lost"
        )
        fleet.server.start()
        waited = await waiting
        assert isinstance(waited.outcome, Accepted)
        assert waited.stage is Stage.APPENDED
        assert (await write(desk, slip, Stage.SNAPSHOTTED)).stage is Stage.SNAPSHOTTED


async def test_workers_go_on_without_redis(fleet: WaitingFleet, slip: str) -> None:
    async with fleet.desk() as desk:
        await write(desk, slip, Stage.RELAYED)
        fleet.server.kill()
        try:
            waited = await write(desk, slip, Stage.RELAYED, patience=5)
            assert isinstance(waited.outcome, Accepted)
            await asyncio.to_thread(fleet.settle)
        finally:
            fleet.server.start()
        assert len(await read(desk, slip)) == 2


def test_send_waits_and_prints_the_stage(fleet: WaitingFleet, slip: str) -> None:
    once = ("send", "slips", slip, "Write", '{"text": "x"}', "--command-id", "c-1")
    for stage in ("appended", "snapshotted", "relayed"):
        again = (*once[:-1], stage)
        assert fleet.json(*again, "--wait", stage)["stage"] == stage
    assert fleet.run(*once, "--wait", "appended").endswith(", appended\n")
    relay = fleet.roles["relay"].process
    relay.send_signal(signal.SIGSTOP)
    try:
        late = (*once[:-1], "c-2", "--wait", "relayed", "--patience", "3")
        assert fleet.json(*late, status=5)["stage"] == "appended"
    finally:
        relay.send_signal(signal.SIGCONT)


# A synchronous domain


@pytest.fixture(scope="module")
def bank(
    kafka: str, mongo_url: str, server: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WaitingFleet]:
    with WaitingFleet(
        (kafka, mongo_url), tmp_path_factory.mktemp("bank"), "eventfleet.domains.bank", server
    ) as fleet:
        fleet.start_all()
        yield fleet


async def test_events_of_a_synchronous_command_are_waited_for_to_the_last(
    bank: WaitingFleet,
) -> None:
    async with bank.desk() as desk:

        async def send(command: str, stage: Stage, **data: Any) -> WaitResult:
            waited = await desk.service.send("acc", command, data, wait=stage, patience=PATIENT)
            assert waited.stage is (stage if isinstance(waited.outcome, Accepted) else None)
            return waited

        await send("Open", Stage.APPENDED, owner="ann", currency="EUR")
        assert len(await read(desk, "acc")) == 1
        await send("Deposit", Stage.SNAPSHOTTED, amount=1000)
        before = len(await read(desk, "acc"))
        waited = await send("Close", Stage.RELAYED)
        assert isinstance(waited.outcome, Accepted)
        assert waited.outcome.version == before + 2
        last = (await read(desk, "acc"))[-1]
        routed = await asyncio.to_thread(bank.kafka.records, "bank.bookings")
        assert [r for r in routed if waited.outcome.event_id.encode() in r.value]
        assert last != waited.outcome.event_id
        assert isinstance((await send("Deposit", Stage.RELAYED, amount=1)).outcome, Rejected)
