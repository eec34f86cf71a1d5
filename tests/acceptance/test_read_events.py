"""The guide to reading events: its programs, as they stand, beside a fleet of orders."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from eventfleet.topics.codec import EVENT_HEADERS, REDRIVEN, REDRIVEN_HEADERS, encode
from eventfleet.topics.event import CommandRecord, EventRecord
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT
from tests.acceptance.kafka_by_hand import NewRecord, run, wait_for
from tests.servers.kafka import JAVA

GUIDE = (ROOT / "docs" / "guides" / "read-events.md").read_text()
JUDGE, PROGRAM = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
[JAVA_PROGRAM] = re.findall(r"```java\n(.*?)```", GUIDE, re.DOTALL)
[SHOWN] = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
LEDGER = "finance.ledger"
STORED: dict[str, Any] = {
    "id": "e-1",
    "type": "Paid",
    "domain": "orders",
    "aggregate_id": "o-1",
    "time": datetime(2026, 1, 1, tzinfo=UTC),
    "data": {"amount": 1},
}
CSV = """case:concept:name,concept:name,time:timestamp,customer,total,currency,amount
o-1,Place,2026-01-01T09:00:00Z,ann,30,EUR,
o-2,Place,2026-01-01T09:00:00Z,ben,5,EUR,
o-1,Pay,2026-01-01T09:01:00Z,,,,30
o-2,Pay,2026-01-01T09:01:00Z,,,,5
"""


class LedgerFleet(CommandFleet):
    """A fleet of orders, whose route's topic is removed at the end."""

    def _remove(self) -> None:
        super()._remove()
        self.kafka.delete([LEDGER, "shipping.requests"])


@pytest.fixture(scope="module")
def fleet(
    kafka: str, mongo_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LedgerFleet]:
    """A fleet in which two orders are paid for."""
    folder = tmp_path_factory.mktemp("ledger")
    servers = kafka, mongo_url, redis_url
    with LedgerFleet(servers, folder, "eventfleet.domains.orders") as fleet:
        fleet.start("command append relay")
        (folder / "orders.csv").write_text(CSV)
        loaded = ("load", str(folder / "orders.csv"), "--domain", "orders", "--via", "commands")
        assert fleet.json(*loaded)["accepted"] == 4
        fleet.settle("append", "relay")
        yield fleet


@contextmanager
def reading(fleet: LedgerFleet, group: str = "finance") -> Iterator[None]:
    """Run the guide's program, and kill it. Another group begins at the topic's beginning."""
    assert 'group_id="finance"' in PROGRAM
    (fleet.folder / "ledger.py").write_text(PROGRAM.replace('"finance"', f'"{group}"'))
    command = [sys.executable, "ledger.py", "ledger.db"]
    with subprocess.Popen(command, cwd=fleet.folder, env=fleet.environment) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGKILL)


def entries(fleet: LedgerFleet) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(fleet.folder / "ledger.db", timeout=10)) as ledger:
        try:
            return ledger.execute("SELECT aggregate, version, cents FROM entries").fetchall()
        except sqlite3.OperationalError:
            return []


def abort(fleet: LedgerFleet, record: Any) -> None:
    """Write a record in a transaction that is aborted."""

    async def write() -> None:
        options = {"bootstrap_servers": fleet.kafka.address, "transactional_id": fleet.prefix}
        async with AIOKafkaProducer(**options) as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(LEDGER, record.value, key=record.key)
            await producer.abort_transaction()

    run(write())


def paid(fleet: LedgerFleet, order: str) -> Any:
    """The record of a payment."""
    records = fleet.kafka.records(LEDGER)
    return next(each for each in records if each.key == order.encode())


def as_other(record: Any, **changed: Any) -> NewRecord:
    """A record as one of relay, of an event that is another one."""
    value = json.dumps(json.loads(record.value) | changed).encode()
    return NewRecord(LEDGER, record.key, value, record.partition, EVENT_HEADERS)


def test_the_reader_books_each_payment_once_whatever_comes_again(fleet: LedgerFleet) -> None:
    first, second = paid(fleet, "o-1"), paid(fleet, "o-2")
    abort(fleet, as_other(first, id="aborted"))
    booked = [("o-1", 2, 30), ("o-2", 2, 5)]
    with reading(fleet):
        wait_for(lambda: sorted(entries(fleet)) == booked, "the ledger")

    again = NewRecord(LEDGER, second.key, second.value, second.partition, REDRIVEN_HEADERS)
    later = as_other(second, id="later", version=3, type="Returned", data={"refund": 5})
    other = as_other(second, id="other", version=4, type="Packed")
    fleet.kafka.produce([again, later, other])
    with reading(fleet, "finance-again"):
        wait_for(lambda: len(entries(fleet)) > len(booked), "the return")
    assert sorted(entries(fleet)) == [*booked, ("o-2", 3, -5)]


def test_a_schema_version_that_it_does_not_know_ends_the_reader(fleet: LedgerFleet) -> None:
    names: dict[str, Any] = {"__name__": "shown"}
    exec(PROGRAM.replace("asyncio.run(main(sys.argv[1]))", ""), names)
    event = json.loads(paid(fleet, "o-1").value)
    assert names["amount"](event) == 30
    with pytest.raises(SystemExit, match="Paid has schema version 2"):
        names["amount"](event | {"schemaversion": 2})


def test_the_java_program_prints_each_payment_once(fleet: LedgerFleet) -> None:
    (fleet.folder / "Ledger.java").write_text(JAVA_PROGRAM)
    record = paid(fleet, "o-1")
    fleet.kafka.produce([NewRecord(LEDGER, record.key, record.value, record.partition)])
    with (fleet.folder / "java.log").open("w") as output:
        command = [*JAVA, "Ledger.java", fleet.kafka.address]
        with subprocess.Popen(command, cwd=fleet.folder, stdout=output) as process:
            try:
                wait_for(lambda: printed(fleet, "o-1") and printed(fleet, "o-2"), "its lines")
            finally:
                process.kill()
    assert printed(fleet, "o-1") == ['o-1 2 Paid {"amount":30}']
    assert 'o-2 2 Paid {"amount":5}' in printed(fleet, "o-2")


def printed(fleet: LedgerFleet, order: str) -> list[str]:
    lines = (fleet.folder / "java.log").read_text().splitlines()
    return [line for line in lines if line.startswith(order)]


def test_a_relayed_record_is_what_the_guide_says(fleet: LedgerFleet) -> None:
    record = paid(fleet, "o-1")
    event, shown = json.loads(record.value), json.loads(SHOWN)
    assert event.keys() - {"prev", "replyto"} == shown.keys() - {"actor"}
    assert (record.key, event["subject"], event["version"]) == (b"o-1", "o-1", 2)
    assert tuple(record.headers) == EVENT_HEADERS
    assert dict(EVENT_HEADERS)["content-type"].decode() in GUIDE
    assert f"header `{REDRIVEN}`" in GUIDE


def test_each_attribute_is_listed_and_no_other() -> None:
    table = GUIDE.partition("\n| attribute |")[2].partition("\n\n")[0]
    first_cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    listed = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    wire = {"specversion", *EventRecord.__struct_encode_fields__}
    assert listed == wire
    assert listed == {"specversion", *CommandRecord.__struct_encode_fields__} - {"expectedversion"}


def test_the_guides_judgement_tells_repeats_gaps_and_discarded_events() -> None:
    names: dict[str, Any] = {}
    exec(JUDGE, names)
    stored = json.loads(encode(EventRecord(**STORED, version=3)))
    marked = json.loads(encode(EventRecord(**STORED, version=3, discarded=True)))
    judge = names["judge"]
    assert judge(3, stored) == "a repeat"
    assert judge(1, stored).startswith("behind a gap")
    assert (judge(2, stored), judge(2, marked)) == ("the next one", "to be counted, not applied")
