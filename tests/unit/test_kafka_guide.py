"""The guide to commands by Kafka is true: the real role takes its records and sends its replies."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from eventfleet.deciders.outcomes import OUTCOME_NAMES, Unavailable
from eventfleet.roles.notices import PREFIX
from eventfleet.topics.codec import decode_command
from eventfleet.topics.event import MAX_EVENT_BYTES, MAX_ID_CHARS, CommandRecord
from eventfleet.topics.reply import INVALID
from eventfleet.topics.values import MAX_DEPTH
from tests.unit.command_roles import TOPIC, MarkerRoleFixture

GUIDE = (Path(__file__).parents[2] / "docs/guides/send-commands-by-kafka.md").read_text()
OF_EVENTS = {"version", "position", "prev", "fingerprint", "discarded"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


RECORD, ACCEPTED, REFUSED = blocks("json")
[KCAT], [JAVA] = blocks("sh"), blocks("java")


def table(first: str) -> list[list[str]]:
    """The rows of the table whose head begins so."""
    _head, _, rest = GUIDE.partition(f"\n| {first} |")
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


class Orders(MarkerRoleFixture):
    """The command role of orders, with the real decider over servers in memory."""

    async def reply(self, key: str, value: str) -> dict[str, Any]:
        """Take one record, and return its reply."""
        before = len(self.desk.memory.records("orders.replies"))
        await self.desk.memory.put(TOPIC, (key, value.encode()))
        await self.take()
        [reply] = self.desk.memory.records("orders.replies")[before:]
        self.last = reply
        found: dict[str, Any] = json.loads(reply.value or b"")
        return found


async def test_the_record_is_accepted_and_its_event_has_what_the_guide_says() -> None:
    orders = Orders()
    assert await orders.reply("order-1", RECORD) == json.loads(ACCEPTED)
    assert (orders.last.key, orders.last.partition) == (b"order-1", 0)
    command = json.loads(RECORD)
    [event] = orders.desk.memory.seen("orders.events")
    assert event.time.isoformat() == "2026-01-01T09:00:00+00:00"
    assert event.data == command["data"]
    carried = ("correlationid", "causationid", "actor", "replyto", "traceparent")
    assert [command[name] for name in carried] == [
        event.correlation_id,
        event.causation_id,
        event.actor,
        event.reply_to,
        event.traceparent,
    ]
    assert (await orders.reply("order-1", RECORD))["outcome"] == "repeated"


async def test_a_field_that_is_wrong_has_the_reply_of_the_guide() -> None:
    orders = Orders()
    assert '"total": "much"' in GUIDE
    wrong = RECORD.replace('"total": 1999', '"total": "much"')
    assert wrong != RECORD
    assert await orders.reply("order-1", wrong) == json.loads(REFUSED)
    reply = await orders.reply("order-2", RECORD)
    assert (reply["outcome"], reply["field"]) == ("invalid", "key")
    assert len(orders.desk.memory.records("orders.dead-letters")) == 2


async def test_the_commands_of_kcat_and_java_are_accepted() -> None:
    orders = Orders()
    found = re.search(r"echo '(.*?)\|(.*)'", KCAT)
    assert found
    reply = await orders.reply(found[1], found[2])
    assert (reply["outcome"], reply["reply_to"]) == ("accepted", "kcat")
    body = re.search(r'"""\n(.*?)"""', JAVA, re.DOTALL)
    key = re.search(r'ProducerRecord<>\("orders.commands", "(.*?)", command\)', JAVA)
    assert body
    assert key
    reply = await orders.reply(key[1], body[1] % "2026-01-01T09:00:00.123456789Z")
    assert (reply["outcome"], reply["reply_to"]) == ("accepted", "checkout")


def test_every_attribute_is_listed_and_no_other() -> None:
    listed = {row[0].strip("`"): row[1] for row in table("attribute")}
    known = {"specversion", *CommandRecord.__struct_encode_fields__}
    assert set(listed) == known - OF_EVENTS
    for name in OF_EVENTS:
        assert f"`{name}`" in GUIDE
    assert set(json.loads(RECORD)) == set(listed) - {"expectedversion"}
    for name, needed in listed.items():
        command = {**json.loads(RECORD), "ignored": {"by": "us"}}
        command.pop(name, None)
        value = json.dumps(command).encode()
        if needed:
            with pytest.raises(ValueError, match=name):
                decode_command(value)
        else:
            assert decode_command(value).id == "checkout-4711"


def test_every_outcome_of_a_reply_is_listed() -> None:
    names = {name for kind, name in OUTCOME_NAMES.items() if kind is not Unavailable}
    assert {row[0].strip("`") for row in table("outcome")} == {*names, INVALID}


def test_the_limits_are_those_of_the_code() -> None:
    assert f"{MAX_EVENT_BYTES:,} bytes" in GUIDE
    assert f"1 to {MAX_ID_CHARS} characters" in GUIDE
    assert f"{MAX_DEPTH} levels" in GUIDE
    assert f"begin with `{PREFIX}`" in GUIDE
    deep: Any = 1
    for _ in range(MAX_DEPTH - 2):
        deep = [deep]
    command = json.loads(RECORD)
    assert decode_command(json.dumps(command | {"data": {"deep": deep}}).encode())
    with pytest.raises(ValueError, match=f"deeper than {MAX_DEPTH} levels"):
        decode_command(json.dumps(command | {"data": {"deep": [deep]}}).encode())
