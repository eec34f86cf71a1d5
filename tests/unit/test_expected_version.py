"""Commands that name the version that they were decided on, over the in-memory servers."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from datetime import timedelta
from typing import Any

import pytest

from eventfleet.commands import Conflict, VersionConflict
from eventfleet.deciders.command_parser import parse_command
from eventfleet.deciders.expected_version import is_expected
from eventfleet.deciders.fast_command_decoder import FastCommandDecoder
from eventfleet.deciders.outcomes import (
    Accepted,
    IdReused,
    Outcome,
    Rejected,
    Repeated,
    Unavailable,
)
from eventfleet.deciders.state_command import StateCommand
from eventfleet.domains.bank import Deposit, Deposited, Opened, bank
from eventfleet.domains.orders import Pay, Placed, orders
from eventfleet.domains.process_log import process_log
from eventfleet.model.domain import Domain
from eventfleet.roles.command import CommandRole
from eventfleet.service.event_service import EventService
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.stores.memory.log import MemoryReader, MemoryTransactionalWriter
from eventfleet.stores.memory.registry import MemoryRegistry
from eventfleet.testing import given
from eventfleet.topics.codec import decode_command, encode
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import CommandRecord, EventKey, ExpectedVersion, event_id
from eventfleet.topics.record import LogRecord
from tests.unit.command_roles import CommandRoleFixture, ScriptedDecider
from tests.unit.sync_domain import NOW, SyncFixture, ask, till

PLACE = "till.events/0"


@pytest.fixture
async def desk() -> AsyncIterator[SyncFixture]:
    async with SyncFixture().open() as desk:
        yield desk


async def send(
    desk: SyncFixture, expected: ExpectedVersion, name: str, id: str = "", **data: Any
) -> Outcome:
    command = ask(name, id, **data)._replace(expected_version=expected)
    return (await desk.decide(command))[0]


def conflict(version: int, wanted: str) -> VersionConflict:
    present = f"is at version {version}" if version else "has no event"
    return VersionConflict(f"till 'a' {present}; the command expects {wanted}", version)


# What an aggregate's version is compared with


@pytest.mark.parametrize(
    ("expected", "fitting"),
    [(None, {0, 1, 2}), (0, {0}), (1, {1}), (2, {2}), (3, set()), ("*", {1, 2})],
)
def test_an_aggregate_is_at_the_expected_version_or_not(
    expected: ExpectedVersion | None, fitting: set[int]
) -> None:
    assert {version for version in range(3) if is_expected(version, expected)} == fitting


# Decided on the version found


@pytest.mark.parametrize(("name", "data"), [("PutIn", {"cents": 5}), ("Note", {"text": "a"})])
async def test_a_command_on_the_present_version_has_its_event_at_the_next(
    desk: SyncFixture, name: str, data: dict[str, Any]
) -> None:
    assert isinstance(await send(desk, 0, name, **data), Accepted)
    second = await send(desk, 1, name, **data)
    assert isinstance(second, Accepted)
    assert second.version == 2
    assert isinstance(await send(desk, "*", name, **data), Accepted)
    assert [event.version for event in await desk.stored()] == [1, 2, 3]


@pytest.mark.parametrize(("name", "data"), [("PutIn", {"cents": 5}), ("Note", {"text": "a"})])
@pytest.mark.parametrize("cached", [0, 100])
async def test_on_another_version_nothing_is_stored_and_the_present_one_is_the_answer(
    name: str, data: dict[str, Any], cached: int
) -> None:
    async with SyncFixture(cached).open() as desk:
        assert await send(desk, 1, name, **data) == conflict(0, "version 1")
        assert await send(desk, "*", name, **data) == conflict(0, "an event")
        await desk.send("PutIn", cents=1)
        await desk.send("PutIn", cents=1)
        for expected, wanted in ((0, "no event"), (1, "version 1"), (3, "version 3")):
            outcome = await send(desk, expected, name, **data)
            assert outcome == conflict(2, wanted)
            assert isinstance(outcome, Conflict)
        assert [event.version for event in await desk.stored()] == [1, 2]
        assert len(desk.produced()) == 2
        assert desk.manager.statistics.conflicts == 0


async def test_another_version_comes_before_what_the_rule_says(desk: SyncFixture) -> None:
    assert await send(desk, 3, "TakeOut", cents=9) == conflict(0, "version 3")
    assert await send(desk, 0, "TakeOut", cents=9) == Rejected("there are 0")


async def test_of_commands_that_were_decided_on_one_version_one_is_taken(
    desk: SyncFixture,
) -> None:
    commands = [ask("PutIn", cents=n)._replace(expected_version=0) for n in range(1, 6)]
    first, *others = await desk.decide(*commands)
    assert isinstance(first, Accepted)
    assert others == [conflict(1, "no event")] * 4


async def test_of_services_that_put_on_one_version_one_wins(desk: SyncFixture) -> None:
    async with SyncFixture(kept=desk).open() as other:
        outcomes = await asyncio.gather(
            *(send(each, 0, "PutIn", cents=1) for each in (desk, other)),
            *(send(each, 0, "Note", text="a") for each in (desk, other)),
        )
    kinds = [type(outcome) for outcome in outcomes]
    assert (kinds.count(Accepted), kinds.count(VersionConflict)) == (1, 3)
    assert len(await desk.stored()) == 1


@pytest.mark.parametrize(
    ("name", "data", "wins"),
    [
        ("PutIn", {"cents": 5}, 1),
        ("PutIn", {"cents": 5}, 3),
        ("TakeOut", {"cents": 1}, 1),
        ("Note", {"text": "a"}, 1),
    ],
)
async def test_who_wins_between_the_read_and_the_put_makes_a_conflict_with_the_version_found(
    desk: SyncFixture, name: str, data: dict[str, Any], wins: int
) -> None:
    await desk.send("PutIn", cents=9)
    async with SyncFixture(kept=desk).open() as other:
        put = desk.commander.put
        puts: list[int] = []

        async def late(commands: Any, *more: Any) -> Any:
            puts.append(len(commands))
            for _ in range(wins):
                await other.send("PutIn", cents=1)
            return await put(commands)

        desk.commander.put = late  # type: ignore[method-assign]
        assert await send(desk, 1, name, **data) == conflict(1 + wins, "version 1")
    assert puts == [1], "it is not put again"
    assert len(await desk.stored()) == 1 + wins


async def test_a_state_that_cant_be_folded_is_no_hindrance_without_a_validator(
    desk: SyncFixture,
) -> None:
    await desk.send("Note", text="unfoldable")
    assert await send(desk, 0, "Note", text="a") == conflict(1, "no event")
    assert isinstance(await send(desk, 1, "Note", text="a"), Accepted)


# Repeats: idempotency goes first


@pytest.mark.parametrize("again", [0, 1, 2, 5, "*"])
async def test_a_repeat_has_its_first_answer_though_the_version_has_moved_on(
    desk: SyncFixture, again: ExpectedVersion
) -> None:
    for name, data in (("PutIn", {"cents": 5}), ("Note", {"text": "a"})):
        version = len(await desk.stored())
        first = await send(desk, version, name, name, **data)
        assert isinstance(first, Accepted)
        repeated = Repeated(first.event_id, PLACE, version + 1)
        await desk.send("PutIn", cents=1)
        assert await send(desk, again, name, name, **data) == repeated
        assert await desk.send(name, name, **data) == repeated


async def test_an_id_of_another_command_is_refused_as_ever(desk: SyncFixture) -> None:
    await send(desk, 0, "PutIn", "1", cents=1)
    assert isinstance(await send(desk, 0, "PutIn", "1", cents=2), IdReused)


async def test_after_a_conflict_the_same_command_may_come_on_another_version(
    desk: SyncFixture,
) -> None:
    await desk.send("PutIn", cents=1)
    assert await send(desk, 0, "PutIn", "1", cents=5) == conflict(1, "no event")
    assert isinstance(await send(desk, 1, "PutIn", "1", cents=5), Accepted)


async def test_a_put_whose_fate_is_unknown_is_found_though_the_version_is_its_own(
    desk: SyncFixture,
) -> None:
    desk.store.after["put_each"] = 1
    assert isinstance(await send(desk, 0, "PutIn", "1", cents=5), Unavailable)
    assert isinstance(await send(desk, 0, "PutIn", "1", cents=5), Repeated)


async def test_what_another_call_of_the_command_puts_between_the_reads_is_no_conflict(
    desk: SyncFixture,
) -> None:
    """Without a validator, id and version are read by two queries."""
    async with SyncFixture(kept=desk).open() as other:
        heads, found = desk.store.heads, asyncio.Event()
        find = desk.store.find

        async def find_first(keys: Collection[EventKey]) -> Any:
            result = await find(keys)
            found.set()
            return result

        async def heads_after_the_other(ids: Collection[str]) -> Any:
            await found.wait()
            if not await desk.stored():
                await send(other, 0, "Note", "1", text="a")
            return await heads(ids)

        desk.store.find = find_first  # type: ignore[attr-defined]
        desk.store.heads = heads_after_the_other  # type: ignore[attr-defined]
        assert await send(desk, 0, "Note", "1", text="a") == Repeated(
            event_id("till", "a", "1"), PLACE, 1
        )


# What it costs


@pytest.mark.parametrize("expected", [None, 1])
async def test_a_command_that_is_taken_costs_no_further_round_trip(
    desk: SyncFixture, expected: ExpectedVersion | None
) -> None:
    await desk.send("PutIn", cents=5)
    for calls in (desk.store.calls, desk.producer.calls):
        calls.clear()
    (outcome,) = await desk.decide(ask("PutIn", cents=5)._replace(expected_version=expected))
    assert isinstance(outcome, Accepted)
    assert [name for name, _ in desk.store.calls] == ["put_each"]
    assert [name for name, _ in desk.producer.calls] == ["produce"]


async def test_a_conflict_on_a_state_in_memory_costs_one_read(desk: SyncFixture) -> None:
    await desk.send("PutIn", cents=5)
    desk.store.calls.clear()
    await send(desk, 0, "PutIn", cents=5)
    assert [name for name, _ in desk.store.calls] == ["tails"]


# On the wire


def command(domain: Domain[Any] = bank, **named: Any) -> CommandRecord:
    about: dict[str, Any] = {"type": "Deposit", "data": {"amount": 5}} | named
    return CommandRecord(id="c", domain=domain.name, aggregate_id="a", time=NOW, **about)


@pytest.mark.parametrize("expected", [0, 1, 2**63 - 1, "*"])
@pytest.mark.parametrize("name", ["Deposit", "PutIn", "Note"])
def test_both_decoders_read_it_and_no_event_has_it(expected: ExpectedVersion, name: str) -> None:
    domain = bank if name == "Deposit" else till
    data = {"Deposit": {"amount": 5}, "PutIn": {"cents": 1}, "Note": {"text": "a"}}[name]
    sent = command(domain, type=name, data=data, expected_version=expected)
    value = encode(sent)
    assert json.loads(value)["expectedversion"] == expected
    assert decode_command(value) == decode_command(b" " + value) == sent
    slow = parse_command(domain, sent)
    read = FastCommandDecoder(domain).read(value)
    assert (read is not None) == (name != "Note"), "what emits goes the long way"
    for parsed in [slow, *([read[1]] if read else [])]:
        assert isinstance(parsed, StateCommand)
        assert parsed.expected_version == expected
        assert b"expectedversion" not in encode(parsed.event)
        assert (
            parsed.event.fingerprint
            == parse_command(domain, command(domain, type=name, data=data)).event.fingerprint
        )  # type: ignore[union-attr]


@pytest.mark.parametrize("wrong", [-1, 2**63, 1.0, "1", "", True, [1], {"version": 1}])
def test_what_is_no_version_is_named(wrong: Any) -> None:
    value = encode(command()).replace(b'"data"', b'"expectedversion":%b,"data"' % _json(wrong))
    assert FastCommandDecoder(bank).read(value) is None
    with pytest.raises(InvalidRecord) as refused:
        decode_command(value)
    assert refused.value.field.startswith("expectedversion")
    if wrong != 2**63:
        assert 'an integer from 0 to 2^63-1 nor "*"' in refused.value.reason


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("domain", "name", "data"),
    [(orders, "Pay", {"amount": 5}), (process_log, "any", {})],
)
def test_an_asynchronous_domain_refuses_it_and_says_why(
    domain: Domain[Any], name: str, data: dict[str, Any]
) -> None:
    for expected in (0, 3, "*"):
        sent = command(domain, type=name, data=data, expected_version=expected)
        assert FastCommandDecoder(domain).read(encode(sent)) is None
        with pytest.raises(InvalidRecord, match=f"{domain.name} is asynchronous") as refused:
            parse_command(domain, sent)
        assert refused.value.field == "expectedversion"


# EventService


def service(desk: SyncFixture, domain: Domain[Any] = till) -> EventService[Any]:
    return EventService(domain, desk.manager, desk.querier, SystemClock(), Uuid7Generator())


async def test_a_program_sends_it_by_class_and_by_name(desk: SyncFixture) -> None:
    put_in = till.rule("PutIn")
    async with service(desk) as sent_to:
        first = await sent_to.send("a", put_in(cents=5), expected_version=0)  # type: ignore[operator]
        second = await sent_to.send("a", "PutIn", {"cents": 5}, expected_version=1)
        third = await sent_to.send("a", "PutIn", {"cents": 5}, expected_version=1)
        fourth = await sent_to.send("a", "Note", {"text": "a"}, expected_version="*")
        assert [first.version, second.version, fourth.version] == [1, 2, 3]  # type: ignore[union-attr]
        assert third == conflict(2, "version 1")
        assert sent_to.outcomes["conflict"] == 1
        latest = await sent_to.latest("a")
        assert latest
        assert latest.version == 3


async def test_a_service_of_an_asynchronous_domain_refuses_it_before_anything_is_done() -> None:
    class NoDecider:
        async def decide(self, *_: Any) -> None:
            raise AssertionError("decided")

    async with SyncFixture().open() as desk:
        orders_service = EventService(
            orders, NoDecider(), desk.querier, SystemClock(), Uuid7Generator()
        )
        async with orders_service as sent_to:
            with pytest.raises(InvalidRecord, match="expectedversion: is for synchronous domains"):
                await sent_to.send("o", Pay(amount=1), expected_version=1)


# The command role


async def test_a_reply_has_the_present_version_and_no_dead_letter_is_made(
    desk: SyncFixture,
) -> None:
    await desk.send("PutIn", cents=1)
    writer = MemoryTransactionalWriter(desk.log, "g.command", "till.commands", 0)
    role = CommandRole(till, 0, desk.manager, MemoryRegistry(), writer, SystemClock())
    await role.open()
    records = [
        LogRecord("till.commands", 0, offset, b"a", encode(each))
        for offset, each in enumerate(
            command(till, type=name, data=data, expected_version=expected)
            for name, data, expected in (
                ("PutIn", {"cents": 5}, 7),
                ("Note", {"text": "a"}, 0),
                ("PutIn", {"cents": 5}, 1),
                ("PutIn", {"cents": 5}, 1),
            )
        )
    ]
    report = await role.process(records, len(records))
    reader = MemoryReader(desk.log)
    replies = [json.loads(r.value or b"") async for r in reader.read("till.replies", 0, 0, 99)]
    assert [(each["outcome"], each["version"]) for each in replies] == [
        ("conflict", 1),
        ("conflict", 1),
        ("accepted", 2),
        ("repeated", 2),
    ]
    assert replies[0]["reason"] == conflict(1, "version 7").reason
    assert (report.conflicts, report.accepted, report.dead_letters) == (2, 1, 0)


async def test_in_an_asynchronous_domain_such_a_command_is_a_dead_letter() -> None:
    role = CommandRoleFixture(ScriptedDecider())
    await role.role.open()
    value = encode(command(orders, type="Pay", data={"amount": 1}, expected_version=1))
    report = await role.role.process([LogRecord("orders.commands", 0, 0, b"a", value)], 1)
    assert (report.dead_letters, await role.said()) == (1, [])


# The kit for testing domains


def test_the_kit_compares_the_version_of_what_was_given() -> None:
    opened = Opened(owner="ann", currency="EUR")
    account = given(bank, opened)
    account.when(Deposit(amount=5), expected_version=1).then(Deposited(amount=5))
    account.when(Deposit(amount=5), expected_version="*").then(Deposited(amount=5))
    account.when(Deposit(amount=5), expected_version=0).conflict(version=1)
    account.when(Deposit(amount=5), expected_version=2).conflict(version=1).state(balance=0)
    with pytest.raises(AssertionError) as caught:
        account.when(Deposit(amount=5), expected_version=0).conflict(version=2)
    assert "expecting version 0" in str(caught.value)
    assert "+ conflict: at version 1" in str(caught.value)
    placed = Placed(customer="ann", total=5, currency="EUR")
    given(orders, placed).when(Pay(amount=5), expected_version=1).invalid("expectedversion")


async def test_a_deadline_that_has_passed_is_no_conflict(desk: SyncFixture) -> None:
    late = ask("PutIn", cents=1)._replace(expected_version=5)
    outcomes: list[Outcome] = []
    deadline = desk.clock.steady() - timedelta(seconds=1)
    await desk.manager.decide([late], deadline, lambda _, outcome: outcomes.append(outcome))
    assert [type(outcome) for outcome in outcomes] == [Unavailable]
