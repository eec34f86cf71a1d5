"""The command role: answers in the order of the commands, and none before the chunk is decided."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from eventfleet.deciders.outcomes import (
    Accepted,
    Failed,
    Rejected,
    Repeated,
    Unavailable,
)
from eventfleet.roles.command import YIELD_EVERY_RECORDS
from eventfleet.roles.role import UnusableOffset
from eventfleet.stores import errors
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import LogRecord
from tests.unit.command_roles import (
    GROUP,
    TOPIC,
    CommandRoleFixture,
    MarkerRoleFixture,
    ScriptedDecider,
)
from tests.unit.log_fields import fields_of


def record(offset: int, name: str, kind: str = "Pay") -> LogRecord:
    time = datetime(2024, 1, 1, tzinfo=UTC)
    command = EventRecord(
        id=name,
        type=kind,
        domain="orders",
        aggregate_id="order-1",
        time=time,
        data={"amount": 1},
        reply_to="me",
        correlation_id="k",
    )
    return LogRecord(TOPIC, 0, offset, b"order-1", encode(command))


ACCEPTED, REPEATED = Accepted("e-1", "orders.events/0"), Repeated("e-2", "orders.events/0")
REJECTED, AWAY = Rejected("too late", "Cancelled"), Unavailable("away")


async def test_each_command_is_answered_in_order_with_what_became_of_it() -> None:
    role = CommandRoleFixture(ScriptedDecider({"a": ACCEPTED, "b": REJECTED, "c": REPEATED}))
    await role.role.open()
    records = [record(0, "a"), record(1, "b"), record(2, "c"), record(3, "d", kind="Bribe")]
    report = await role.role.process(records, 4)
    about = {"command": "Pay", "aggregate_id": "order-1", "reply_to": "me", "correlation_id": "k"}
    assert await role.said() == [
        {
            **about,
            "command_id": "a",
            "outcome": "accepted",
            "event_id": "e-1",
            "place": "orders.events/0",
        },
        {
            **about,
            "command_id": "b",
            "outcome": "rejected",
            "reason": "too late",
            "marked": "Cancelled",
        },
        {
            **about,
            "command_id": "c",
            "outcome": "repeated",
            "event_id": "e-2",
            "place": "orders.events/0",
        },
        {
            **about,
            "command": "Bribe",
            "command_id": "d",
            "outcome": "invalid",
            "field": "type",
            "reason": "'Bribe' is not a command of orders; known: Cancel, Deliver, Pack, Pay, "
            "Place, Return, Ship",
        },
    ]
    assert [letter["id"] for letter in await role.said("dead-letters")] == ["d"]
    assert await role.committed() == 4
    counts = report.accepted, report.rejected, report.repeated, report.dead_letters
    assert counts == (1, 1, 1, 1)


async def test_a_command_on_which_the_domains_code_raises_is_answered_and_the_others_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = Failed("replay-failed", "order-1 version 2 can't be replayed", "in evolve: a secret")
    role = CommandRoleFixture(ScriptedDecider({"a": ACCEPTED, "b": broken, "c": ACCEPTED}))
    await role.role.open()
    report = await role.role.process([record(0, "a"), record(1, "b"), record(2, "c")], 3)
    answers = await role.said()
    assert [each["outcome"] for each in answers] == ["accepted", "failed", "accepted"]
    assert answers[1]["problem"] == "replay-failed"
    assert answers[1]["reason"] == broken.reason
    assert "secret" not in str(answers)
    assert "in evolve: a secret" in caplog.text
    (line,) = caplog.records
    assert line.getMessage().startswith(f"{broken.reason} (command b, correlation id k)\n")
    assert fields_of(line) == {
        "domain": "orders",
        "role": "command",
        "partition": 0,
        "offset": 1,
        "aggregate_id": "order-1",
        "command": "Pay",
        "command_id": "b",
        "correlation_id": "k",
        "problem": "replay-failed",
        "exception": "in evolve: a secret",
    }
    assert await role.committed() == 3
    assert (report.accepted, report.failed) == (2, 1)


async def test_a_command_on_whose_parsing_the_domains_code_raises_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def parse(*_: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr("eventfleet.deciders.fast_command_decoder.decode_canonical", parse)
    monkeypatch.setattr("eventfleet.roles.command.parse_decoded_command", parse)
    role = CommandRoleFixture(ScriptedDecider())
    await role.role.open()
    await role.role.process([record(0, "a")], 1)
    (answer,) = await role.said()
    assert (answer["outcome"], answer["problem"]) == ("failed", "decide-failed")
    assert await role.committed() == 1


async def test_nothing_is_answered_before_all_is_and_what_was_decided_stays_so() -> None:
    decider = ScriptedDecider(
        {"a": REJECTED, "b": ACCEPTED, "c": AWAY}, {"c": AWAY}, {"c": ACCEPTED}
    )
    role = CommandRoleFixture(decider)
    records = [record(0, "a"), record(1, "b"), record(2, "c")]
    for _ in range(2):
        await role.role.open()
        with pytest.raises(errors.ServerUnavailable, match="away"):
            await role.role.process(records, 3)
        assert await role.said() == []
        assert await role.committed() == 0
    assert await role.role.open() == 0
    report = await role.role.process(records, 3)
    assert decider.asked == [["a", "b", "c"], ["c"], ["c"]]
    outcomes = [answer["outcome"] for answer in await role.said()]
    assert outcomes == ["rejected", "accepted", "accepted"]
    assert (report.accepted, report.rejected, report.repeated) == (2, 1, 0)


async def test_the_next_chunk_is_decided_anew() -> None:
    decider = ScriptedDecider({"a": ACCEPTED}, {"a": REPEATED})
    role = CommandRoleFixture(decider)
    await role.role.open()
    await role.role.process([record(0, "a")], 1)
    await role.role.process([record(1, "a")], 2)
    assert [answer["outcome"] for answer in await role.said()] == ["accepted", "repeated"]


async def test_what_was_decided_stays_so_when_the_chunk_comes_again_in_parts() -> None:
    decider = ScriptedDecider({"a": REJECTED, "b": ACCEPTED, "c": AWAY}, {"c": ACCEPTED})
    role = CommandRoleFixture(decider)
    records = [record(0, "a"), record(1, "b"), record(2, "c")]
    await role.role.open()
    with pytest.raises(errors.ServerUnavailable):
        await role.role.process(records, 3)
    await role.role.open()
    await role.role.process(records[:1], 1)
    await role.role.process(records[1:], 3)
    assert decider.asked == [["a", "b", "c"], ["c"]]
    outcomes = [answer["outcome"] for answer in await role.said()]
    assert outcomes == ["rejected", "accepted", "accepted"]


async def test_while_a_long_chunk_is_read_others_get_their_turn() -> None:
    count = 5 * YIELD_EVERY_RECORDS
    role = CommandRoleFixture(ScriptedDecider({f"{n}": ACCEPTED for n in range(count)}))
    await role.role.open()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    await role.role.process([record(n, f"{n}") for n in range(count)], count)
    beside.cancel()
    assert turns >= 5
    assert await role.committed() == count


def twice(value: bytes | None) -> bytes:
    return (value or b"").replace(b'"amount":1', b'"amount":1,"amount":1000')


async def test_each_record_that_is_no_command_becomes_a_dead_letter_that_says_why() -> None:
    role = CommandRoleFixture(ScriptedDecider({"ok": ACCEPTED}))
    await role.role.open()
    strangers = {
        "value: is absent": None,
        "value: is not JSON": b"{",
        "source: is 'others'": record(0, "x").value.replace(b'"orders"', b'"others"'),  # type: ignore[union-attr]
        "data.amount": record(0, "x").value.replace(b'"amount":1', b'"amount":0'),  # type: ignore[union-attr]
        "'Bribe' is not a command": record(0, "x", "Bribe").value,
        "amount: is given more than once": twice(record(0, "x").value),
    }
    records = [LogRecord(TOPIC, 0, i, b"k", value) for i, value in enumerate(strangers.values())]
    report = await role.role.process([*records, record(9, "ok")], 10)
    letters = [r async for r in role.reader.read("orders.dead-letters", 0, 0, 99)]
    for letter, (reason, value) in zip(letters, strangers.items(), strict=True):
        headers = dict(letter.headers)
        assert reason in headers["eventfleet-reason"].decode()
        assert headers["eventfleet-role"] == b"command"
        assert letter.value == value
    assert report.dead_letters == len(strangers)
    answers = [(each["command_id"], each["outcome"]) for each in await role.said()]
    assert answers == [*[("x", "invalid")] * 4, ("ok", "accepted")]


def changed(**attributes: object) -> bytes:
    """A command of orders with other attributes, or without those that are None."""
    command = json.loads(record(0, "a").value or b"") | attributes
    return json.dumps({name: each for name, each in command.items() if each is not None}).encode()


async def answers_to(*values: bytes | None, key: bytes | None = b"order-1") -> CommandRoleFixture:
    """A role that has taken these records, none of which is a command."""
    role = CommandRoleFixture(ScriptedDecider())
    await role.role.open()
    records = [LogRecord(TOPIC, 0, offset, key, value) for offset, value in enumerate(values)]
    report = await role.role.process(records, len(values))
    assert report.dead_letters == len(values)
    letters = [r async for r in role.reader.read("orders.dead-letters", 0, 0, 99)]
    assert [letter.value for letter in letters] == list(values)
    assert await role.committed() == len(values)
    return role


@pytest.mark.parametrize(
    ("attributes", "field", "reason", "other"),
    [
        ({"data": {"amount": "much"}}, "data.amount", "Expected `int`, got `str`", {}),
        ({"data": {"amount": 2**70}}, "data.amount", "is beyond a 64-bit integer", {}),
        ({"data": None}, "data", "is missing", {}),
        ({"specversion": "0.3"}, "specversion", "is '0.3', only '1.0' is read", {}),
        ({"source": "bank"}, "source", "is 'bank', not 'orders'", {}),
        ({"time": "yesterday"}, "time", "Invalid RFC3339", {}),
        ({"type": 7}, "type", "Expected `str`, got `int`", {"command": ""}),
        ({"type": None}, "type", "is missing", {"command": ""}),
        ({"subject": None}, "subject", "is missing", {"aggregate_id": ""}),
        ({"subject": ["order-1"]}, "subject", "Expected `str`", {"aggregate_id": ""}),
        ({"correlationid": 7}, "correlationid", "Expected `str", {"correlation_id": None}),
        ({"expectedversion": 3}, "expectedversion", "is for synchronous domains", {}),
        ({"actor": {}}, "actor", "Expected `str", {}),
    ],
)
async def test_who_sent_a_record_that_is_no_command_is_told_what_is_wrong(
    attributes: dict[str, object], field: str, reason: str, other: dict[str, object]
) -> None:
    role = await answers_to(changed(**attributes))
    (answer,) = await role.said()
    assert reason in str(answer.pop("reason"))
    assert (
        answer
        == {
            "command_id": "a",
            "command": "Pay",
            "aggregate_id": "order-1",
            "outcome": "invalid",
            "reply_to": "me",
            "correlation_id": "k",
            "field": field,
        }
        | other
    )
    (reply,) = [r async for r in role.reader.read("orders.replies", 0, 0, 99)]
    assert reply.key == (b"order-1" if answer["aggregate_id"] else None)


@pytest.mark.parametrize("key", [None, b"", b"order-2"])
async def test_a_command_under_another_key_is_not_taken_and_answered(key: bytes | None) -> None:
    role = await answers_to(record(0, "a").value, key=key)
    (answer,) = await role.said()
    assert (answer["command_id"], answer["outcome"]) == ("a", "invalid")
    assert (answer["field"], answer["reason"]) == ("key", f"is {key!r}, not the subject 'order-1'")


async def test_no_sender_has_notices_published_to_the_channel_of_another() -> None:
    role = await answers_to(changed(replyto="notices:of-another/e1"))
    (answer,) = await role.said()
    assert (answer["outcome"], answer["field"]) == ("invalid", "replyto")
    assert answer["reason"] == "begins with 'notices:', as the fleet's own do"


async def test_without_its_id_or_replyto_nobody_is_answered() -> None:
    unknown = [
        *(
            changed(type="Bribe", **{name: value})
            for name in ("id", "replyto")
            for value in (None, "")
        ),
        changed(id=7),
        changed(id="x" * 256),
        changed(type="Bribe", replyto=7),
        (record(0, "a").value or b"")[:-1],
        b'{"id":"a","replyto":"me","data":' + b"[" * 100_000,
        b'{"id":"a","replyto":"\xff"}',
        b'{"id":"\\ud800","replyto":"me"}',
        b"[]",
        b"",
        None,
    ]
    assert await (await answers_to(*unknown)).said() == []


async def test_a_reply_that_its_topic_would_not_take_is_not_sent() -> None:
    fits, too_large = changed(replyto="m" * 900_000, type=7), changed(replyto="m" * 950_000)
    role = await answers_to(fits, too_large, changed(type="B" * 1_000_000))
    (answer,) = await role.said()
    assert len(str(answer["reply_to"])) == 900_000


# On the marker itself


async def test_commands_of_one_chunk_are_judged_in_the_order_of_the_log() -> None:
    shop = MarkerRoleFixture()
    await shop.put("Place1", "Pack2", "Pay3", "Pack4", "Place1")
    await shop.take()
    assert shop.outcomes() == [
        ("Place1", "accepted"),
        ("Pack2", "rejected"),
        ("Pay3", "accepted"),
        ("Pack4", "accepted"),
        ("Place1", "repeated"),
    ]
    assert shop.desk.types() == ["Placed", "Paid", "Packed"]


@pytest.mark.parametrize(
    ("server", "method"), [("markers", "mark"), ("producer", "produce"), ("store", "find")]
)
async def test_while_a_server_is_away_nothing_is_answered_and_then_all_is(
    server: str, method: str
) -> None:
    shop = MarkerRoleFixture()
    await shop.put("Place1", "Pay2")
    getattr(shop.desk, server).before[method] = 10**6
    for _ in range(2):
        with pytest.raises(errors.ServerUnavailable, match=f"{method} failed"):
            await shop.take()
        assert shop.outcomes() == []
        assert await shop.role.open() == 0
    getattr(shop.desk, server).before[method] = 0
    await shop.take()
    # What the first try has noted, this role's next one finishes: nobody was told before.
    assert shop.outcomes() == [("Place1", "accepted"), ("Pay2", "accepted")]
    assert shop.desk.types() == ["Placed", "Paid"]


async def test_when_the_group_has_lost_its_offset_nothing_is_decided_again() -> None:
    """The first command was rejected, its sender was told so; by now the rule would allow it."""
    shop = MarkerRoleFixture()
    await shop.put("Pay1", "Place2")
    await shop.take()
    assert shop.outcomes() == [("Pay1", "rejected"), ("Place2", "accepted")]
    await shop.desk.append()
    del shop.log.offsets[GROUP, TOPIC, 0]
    shop.restart()
    with pytest.raises(UnusableOffset, match="set-offset orders command"):
        await shop.take()
    assert shop.desk.types() == ["Placed"]


async def test_a_new_fleet_takes_the_commands_that_were_there_before() -> None:
    shop = MarkerRoleFixture()
    await shop.put("Place1")
    await shop.take()
    assert shop.outcomes() == [("Place1", "accepted")]


async def test_a_successor_repeats_what_was_not_committed_and_stores_nothing_twice() -> None:
    shop = MarkerRoleFixture()
    await shop.put("Place1", "Pay2")
    offset = await shop.role.open()
    await shop.desk.decide([shop.desk.propose("Place", "Place1")])
    shop.restart()
    await shop.take()
    assert offset == 0
    assert shop.outcomes() == [("Place1", "repeated"), ("Pay2", "accepted")]
    await shop.desk.append()
    assert [event.type for event in await shop.desk.memory.history()] == ["Placed", "Paid"]
