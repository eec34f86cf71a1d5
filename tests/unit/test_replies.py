"""What became of commands, counted from their answers, over the log in memory."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventfleet.cli.load import rejections
from eventfleet.domains.bank import bank
from eventfleet.domains.process_log import process_log, with_rules
from eventfleet.log_files import LogRow, replies
from eventfleet.log_files.loader import (
    MAX_REASONS,
    GroupProgress,
    LoadReport,
    Placement,
    RefusedRow,
    TakesCommandsOnly,
    load,
)
from eventfleet.log_files.rows import Origin
from eventfleet.model.command_rules import START
from eventfleet.model.domain import Domain
from eventfleet.stores.memory.log import MemoryLog, MemoryProducer, MemoryReader
from eventfleet.topics.codec import decode
from eventfleet.topics.names import Topics
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.topic_specs import declare_topics

PARTITIONS = 3
GROUP = "g.command"
ORIGIN = Origin("a.jsonl", "line")
TIME = datetime(2024, 3, 1, tzinfo=UTC)
DOMAIN = with_rules(process_log, {"open": [START], "close": ["open"]})


class ReplyClock:
    """Time passes by sleeping only."""

    def __init__(self) -> None:
        self.time = TIME

    def now(self) -> datetime:
        return self.time

    def steady(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class ReplyFleet:
    """A log, and a command role that answers as it is told."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        for spec in declare_topics(Topics.of("process_log", ""), PARTITIONS, 1, -1):
            self.log.create(spec)
        self.reader = MemoryReader(self.log)

    async def load(
        self,
        *activities: str,
        cases: int = 12,
        on_refusal: Callable[[RefusedRow], object] | None = None,
    ) -> tuple[LoadReport, dict[int, int]]:
        rows = [
            LogRow(ORIGIN, number, f"case-{case}", activity, TIME, {})
            for case in range(cases)
            for number, activity in enumerate(activities)
        ]
        starts = await replies.end_offsets(self.reader, "process_log.replies")
        producer = MemoryProducer(self.log)
        options = {"partitions": PARTITIONS, "on_refusal": on_refusal}
        return await load(rows, DOMAIN, producer, commands=True, **options), starts

    async def commands(self) -> list[LogRecord]:
        topic = "process_log.commands"
        return [
            record
            for partition in range(PARTITIONS)
            async for record in self.reader.read(topic, partition, 0, 1000)
        ]

    def answer(self, record: LogRecord, outcome: str, **more: str) -> None:
        command = decode(record.value)
        ids = {"command_id": command.id, "aggregate_id": command.aggregate_id}
        answer = {**ids, "outcome": outcome, **more}
        self.log.append(
            ProducerRecord(
                "process_log.replies", record.key, json.dumps(answer).encode(), record.partition
            )
        )

    def passed(self, record: LogRecord) -> None:
        self.log.offsets[(GROUP, record.topic, record.partition)] = record.offset + 1

    async def settle(self, loaded: tuple[LoadReport, dict[int, int]]) -> dict[str, int]:
        report, starts = loaded
        following = GroupProgress(self.reader, GROUP, ReplyClock(), patience=5.0)
        await replies.await_replies(report, Topics.of("process_log", ""), following, starts)
        names = ("offered", "accepted", "rejected", "repeated", "refused", "pending")
        counts = {name: getattr(report, name) for name in names}
        assert counts["offered"] == sum(counts.values()) - counts["offered"]
        return counts


async def test_rows_become_commands_in_their_order_with_ids_that_are_made_again() -> None:
    fleet = ReplyFleet()
    for _ in range(2):
        await fleet.load("open", "open", "close")
    commands = [decode(record.value) for record in await fleet.commands()]
    for case in range(12):
        mine = [command for command in commands if command.aggregate_id == f"case-{case}"]
        assert [command.type for command in mine] == ["open", "open", "close"] * 2
        ids = [command.id for command in mine]
        assert ids[:3] == ids[3:]
        assert len(set(ids)) == 3, "true duplicates stay apart"


async def test_rows_that_are_rejected_or_get_no_reply_are_named() -> None:
    fleet = ReplyFleet()
    refused: list[RefusedRow] = []
    loaded = await fleet.load("open", "close", "close", cases=1, on_refusal=refused.append)
    for record, outcome in zip(await fleet.commands(), ("accepted", "rejected", ""), strict=True):
        if outcome:
            fleet.answer(record, outcome, reason="late")
        fleet.passed(record)
    await fleet.settle(loaded)
    [rejected, unanswered] = refused
    assert rejected == (1, "case-0", "rejected", "late")
    assert (unanswered[:3], "no reply" in unanswered.reason) == ((2, "case-0", "refused"), True)


async def test_answers_are_counted_and_rejections_by_reason() -> None:
    fleet = ReplyFleet()
    loaded = await fleet.load("open", "close", "close", "open")
    outcomes = [("accepted", ""), ("repeated", ""), ("rejected", "late"), ("rejected", "twice")]
    for number, record in enumerate(await fleet.commands()):
        outcome, reason = outcomes[number % 4]
        fleet.answer(record, outcome, **({"reason": reason} if reason else {}))
        fleet.passed(record)
    counts = await fleet.settle(loaded)
    assert counts == {
        "offered": 48,
        "accepted": 12,
        "repeated": 12,
        "rejected": 24,
        "refused": 0,
        "pending": 0,
    }
    assert loaded[0].reasons == {"late": 12, "twice": 12}


async def test_answers_to_others_and_to_earlier_loads_do_not_count() -> None:
    fleet = ReplyFleet()
    await fleet.load("open")
    for record in await fleet.commands():
        fleet.answer(record, "accepted")
        fleet.passed(record)
    before = len(await fleet.commands())
    loaded = await fleet.load("open")
    commands = await fleet.commands()
    assert len(commands) == 2 * before
    for record in commands:
        fleet.answer(record, "rejected", command_id="another")
        fleet.answer(record, "rejected", aggregate_id="another")
        if record.offset >= loaded[0].placements.ends[record.partition] / 2:
            fleet.answer(record, "repeated")
        fleet.passed(record)
    counts = await fleet.settle(loaded)
    assert (counts["accepted"], counts["repeated"], counts["rejected"]) == (0, 12, 0)


async def test_without_an_answer_a_command_is_refused_if_passed_and_else_pending() -> None:
    fleet = ReplyFleet()
    loaded = await fleet.load("open", "close")
    commands = await fleet.commands()
    for record in commands:
        if record.offset == 0:
            fleet.answer(record, "accepted")
        if record.offset <= 2:
            fleet.passed(record)
    counts = await fleet.settle(loaded)
    assert (counts["accepted"], counts["refused"]) == (3, 6)
    assert counts["pending"] == 24 - 9
    assert "no reply, see process_log.dead-letters" in loaded[0].problems[0]


async def test_a_row_that_is_no_command_is_refused_before_it_is_sent() -> None:
    fleet = ReplyFleet()
    loaded: Any = await fleet.load("open", "wonder", cases=1)
    assert loaded[0].refused == 1
    assert "'wonder' is not a command of process_log" in loaded[0].problems[0]
    assert len(await fleet.commands()) == 1


@pytest.mark.parametrize("domain", [DOMAIN, bank], ids=["rules", "decide"])
async def test_events_are_not_loaded_into_a_domain_that_judges_commands(
    domain: Domain[Any],
) -> None:
    fleet = ReplyFleet()
    with pytest.raises(TakesCommandsOnly, match="--via commands"):
        await load([], domain, MemoryProducer(fleet.log), partitions=PARTITIONS)


async def test_a_load_keeps_to_the_fleets_partitions_though_others_are_added() -> None:
    log = MemoryLog()
    for spec in declare_topics(Topics.of("process_log", ""), PARTITIONS + 3, 1, -1):
        log.create(spec)
    rows = [LogRow(ORIGIN, n, f"case-{n}", "open", TIME, {}) for n in range(20)]
    await load(rows, DOMAIN, MemoryProducer(log), partitions=PARTITIONS, commands=True)
    for partition in range(PARTITIONS + 3):
        entries = log.entries(Topics.of("process_log", "").commands, partition)
        keys = [(each.record.key or b"").decode() for each in entries if each.record]
        assert keys == [row.case for row in rows if partition_of(row.case, PARTITIONS) == partition]


def test_reasons_that_are_all_different_do_not_fill_the_memory() -> None:
    report, at = LoadReport(), Placement("c", "a", 0, 0)
    for number in range(3 * MAX_REASONS):
        report.reject(f"{number} is too much", at)
        report.reject("0 is too much", at)
    assert report.rejected == 6 * MAX_REASONS
    assert len(report.reasons) == MAX_REASONS
    rows = dict(rejections(report))
    assert rows["  0 is too much"] == 3 * MAX_REASONS + 1
    assert sum(rows.values()) == 2 * report.rejected
