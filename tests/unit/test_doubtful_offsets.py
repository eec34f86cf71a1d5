"""An offset that looks lost or wrong: one answer is no proof, and advice names how to make sure."""

import asyncio
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
)

from eventfleet.check.log_check import OffsetCheck
from eventfleet.check.report import CheckReport
from eventfleet.domains.bank import bank
from eventfleet.roles import rewind, steady_offsets
from eventfleet.roles.offset_faults import AppendOffset, lost, outside_log, set_offset_hint
from eventfleet.roles.repair import RepairContext
from eventfleet.roles.role import UnusableOffset
from eventfleet.roles.takeover import RoleStart, take_over
from eventfleet.runtime.group_offsets import OffsetList, set_unusable_offsets
from eventfleet.runtime.settings import Settings
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import Watermarks
from eventfleet.stores.errors import (
    DoubtfulOffset,
    ServerUnavailable,
)
from eventfleet.stores.kafka import offset_proof
from eventfleet.stores.kafka.offset_proof import prove_offsets
from eventfleet.stores.memory.log import MemoryAdmin, MemoryReader
from eventfleet.stores.remembering_writer import RememberingWriter
from eventfleet.stores.retry import RetryPolicy
from eventfleet.topics.names import Topics, consumer_group
from eventfleet.workers.owner import OwnerState
from eventfleet.workers.owner_outage import OwnerTimeouts
from tests.simulation.in_memory_servers import InMemoryServers
from tests.simulation.recording_domain import tally
from tests.unit.eventually import until
from tests.unit.owner_bench import Bench

PREFIX = "fleet"
REPAIRS = "eventfleet rewind", "eventfleet restore", "raise-epoch", "set-offset"
MINUTE = OwnerTimeouts(doubted=60, tick=0.01, longest_pause=0.01)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (offset_proof, steady_offsets):
        monkeypatch.setattr(module, "REQUEST", RetryPolicy(0, 0))


# Answers of a coordinator

LOADING = GroupLoadInProgressError()
ABSENT: dict[int, int] = {}
HERE = {0: 7}


class Coordinator:
    """Answers in this order, the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers: Iterator[Any] = chain(answers, repeat(answers[-1]))
        self.asked = 0

    async def fetch(self) -> dict[int, int]:
        self.asked += 1
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)


@pytest.mark.parametrize(
    "answers",
    [
        [HERE],
        [ABSENT, HERE],
        [ABSENT, ABSENT, HERE],
        [ABSENT, LOADING, ABSENT, LOADING, HERE],
        [*[LOADING, ABSENT] * 40, HERE],
        [LOADING, *[ABSENT] * 10, HERE],
        [GroupCoordinatorNotAvailableError(), *[ABSENT] * 5, HERE],
    ],
)
async def test_an_offset_that_a_coordinator_has_is_found(answers: list[Any]) -> None:
    """A broker that was killed answers so by turns for half a minute and more."""
    assert await prove_offsets(Coordinator(*answers).fetch, [0]) == HERE


async def test_a_coordinator_that_goes_on_so_gives_no_answer() -> None:
    coordinator = Coordinator(*[LOADING, ABSENT] * 10_000)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await prove_offsets(coordinator.fetch, [0])


async def test_no_offset_is_an_answer_that_is_given_several_times() -> None:
    coordinator = Coordinator(ABSENT)
    assert await prove_offsets(coordinator.fetch, [0]) == {}
    assert coordinator.asked == offset_proof.ABSENT_ANSWERS > 1


async def test_the_offset_of_a_partition_counts_that_any_answer_has() -> None:
    coordinator = Coordinator({0: 7}, {1: 3}, {0: 5, 1: 3})
    assert await prove_offsets(coordinator.fetch, [0, 1]) == {0: 7, 1: 3}
    assert await prove_offsets(Coordinator({0: 7}, {}).fetch, [0, 1]) == {0: 7}


async def test_a_refusal_is_no_doubt() -> None:
    coordinator = Coordinator(GroupAuthorizationFailedError("a group"))
    with pytest.raises(GroupAuthorizationFailedError):
        await prove_offsets(coordinator.fetch, [0])
    assert coordinator.asked == 1


# Roles


def lost_offset() -> UnusableOffset:
    return UnusableOffset(lost(set_offset_hint("orders", "relay")))


def foreign_store() -> DoubtfulOffset:
    return DoubtfulOffset(AppendOffset(bank, 0, 1).missing(9))


@pytest.mark.parametrize("make", [lost_offset, foreign_store])
async def test_a_role_that_finds_its_offset_lost_asks_again(make: Any) -> None:
    bench = Bench(MINUTE)
    bench.errors = [make() for _ in range(4)]
    await bench.opened()
    (owner,) = bench.owners
    told: set[str] = set()
    while bench.source.ends != [2]:
        if owner.state is OwnerState.OPEN:
            bench.give(0, 2)
        told.add(owner.waits_for)
        await asyncio.sleep(0)
    assert bench.failures == []
    assert owner.fault is None
    (reason,) = told - {""}
    assert "it is asked for again before that counts" in reason
    assert not any(repair in reason for repair in REPAIRS)
    await bench.owners.release()


async def test_a_stop_ends_the_doubt() -> None:
    bench = Bench(OwnerTimeouts(doubted=60, tick=0.01, longest_pause=60))
    bench.errors = [lost_offset()] * 100
    await bench.opened()
    bench.give(0, 2)
    (owner,) = bench.owners
    await until(lambda: "lost its offset" in owner.waits_for)
    await bench.owners.release()
    assert bench.failures == []


@pytest.mark.parametrize("make", [lost_offset, foreign_store])
async def test_an_offset_that_stays_lost_stops_the_role_with_advice(make: Any) -> None:
    bench = Bench(OwnerTimeouts(doubted=0.05, tick=0.01, longest_pause=0.001))
    bench.errors = [make() for _ in range(10_000)]
    await bench.opened()
    while not bench.failures:
        bench.give(0, 2)
        await asyncio.sleep(0)
    ((_, error),) = bench.failures
    assert advice_names_proof_first(str(error))
    await bench.owners.release()


async def test_a_server_that_was_away_meanwhile_begins_the_doubt_anew() -> None:
    bench = Bench(OwnerTimeouts(doubted=0.3, tick=0.01, longest_pause=0.001))
    bench.errors = [lost_offset(), ServerUnavailable("it loads")] * 10_000
    await bench.opened()
    for _ in range(60):
        bench.give(0, 2)
        await asyncio.sleep(0.01)
    assert bench.failures == []
    await bench.owners.release()


def advice_names_proof_first(text: str) -> bool:
    proof = text.index("make sure")
    repairs = [text.index(repair) for repair in REPAIRS if repair in text]
    assert "eventfleet topics offsets" in text
    return bool(repairs) and proof < min(repairs)


@pytest.mark.parametrize(
    "fault",
    [
        AppendOffset(bank, 0, 1).missing(9),
        AppendOffset(tally, 0, 1).missing(9),
        AppendOffset(bank, 0, 1).ahead(9, 3),
        AppendOffset(tally, 0, 1).ahead(9, 3),
        lost(set_offset_hint("orders", "command")),
        outside_log(2, Watermarks(5, 9), set_offset_hint("orders", "relay")),
        outside_log(12, Watermarks(5, 9), AppendOffset(bank, 0, 1).repair),
    ],
)
def test_each_fault_names_first_how_to_make_sure(fault: Any) -> None:
    assert advice_names_proof_first(fault)
    assert fault.startswith(fault.finding)
    assert not any(repair in fault.finding for repair in REPAIRS)


async def test_an_offset_below_one_that_was_committed_here_is_doubtful() -> None:
    memory = InMemoryServers(tally)
    for n in "12345":
        await memory.append(n)
    writer = RememberingWriter(memory.writer("relay"))
    start = RoleStart(memory.events.registry, "tally", "relay", 0)
    assert await start.take_over(writer) == 0
    await writer.commit([], 4)
    memory.log.offsets[memory.writer("relay").source] = 1
    with pytest.raises(UnusableOffset, match=r"offset is 1, but .* committed 4") as caught:
        await start.take_over(writer)
    assert advice_names_proof_first(str(caught.value))
    memory.log.offsets[memory.writer("relay").source] = 4
    assert await take_over(writer, "set it") == 4


# Commands of operators


class Flickering(MemoryReader):
    """A reader whose first answers about offsets have none."""

    absent = 3

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        self.absent -= 1
        return {} if self.absent >= 0 else await super().committed(group, topic)


def source(role: str) -> tuple[str, str, int]:
    topics = Topics.of("tally", "")
    topic = topics.events if role == "append" else topics.stored
    return consumer_group(PREFIX, "tally", role), topic, 0


@pytest.fixture
async def memory() -> InMemoryServers:
    """Five stored events: append has taken four of them, relay two."""
    memory = InMemoryServers(tally)
    for n in "12345":
        await memory.append(n)
        await memory.emit(memory.topics.events, memory.event(n))
    memory.log.offsets |= {source("relay"): 2, source("append"): 4}
    registry = memory.events.registry
    await registry.note_begun("relay", 0)
    await registry.note_next_offset(0, await registry.epoch(), 4)
    return memory


async def test_an_offset_that_is_there_after_all_is_not_set(memory: InMemoryServers) -> None:
    group, topic, _ = source("relay")
    reader, admin = Flickering(memory.log), MemoryAdmin(memory.log)
    done = await set_unusable_offsets(reader, admin, group, topic, "latest", {0}, 60)
    assert done == {}
    assert memory.log.offsets[source("relay")] == 2


async def test_the_check_finds_no_fault_in_an_offset_that_is_there_after_all(
    memory: InMemoryServers,
) -> None:
    report = CheckReport("tally")
    settings = Settings(group_prefix=PREFIX)
    reader, registry = Flickering(memory.log), memory.events.registry
    await OffsetCheck(settings, memory.domain, reader, registry, report, 60).run()
    assert report.findings == []


async def test_the_list_shows_an_offset_that_is_there_after_all(memory: InMemoryServers) -> None:
    reader, registry = Flickering(memory.log), memory.events.registry
    lines = await OffsetList(reader, registry, memory.domain, PREFIX, 60).read()
    found = {each.role: each for each in lines if each.partition == 0}
    assert (found["append"].offset, found["append"].noted) == (4, 4)
    assert (found["relay"].offset, found["relay"].begun) == (2, True)
    assert (found["snapshot"].offset, found["snapshot"].begun) == (None, False)


async def test_a_rewind_does_not_take_an_offset_for_lost_that_is_there(
    memory: InMemoryServers,
) -> None:
    context = RepairContext(
        *(memory.domain, memory.stores, Flickering(memory.log), MemoryAdmin(memory.log)),
        *(SystemClock(), PREFIX),
        steady=60,
    )
    assert await rewind.rewind(context) == []
    assert memory.log.offsets[source("append")] == 4
