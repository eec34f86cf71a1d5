"""Counts the replies to the commands of a load, from `<domain>.replies`."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from eventfleet.log_files.loader import (
    GroupProgress,
    LoadReport,
    Placement,
    ProgressCallback,
    await_group,
    ignore_progress,
)
from eventfleet.stores.contracts import LogReader
from eventfleet.topics.event import EventKey
from eventfleet.topics.names import Topics


class LoadReply(msgspec.Struct):
    """The fields of a reply that are counted."""

    command_id: str
    outcome: str
    aggregate_id: str
    reason: str = ""

    @property
    def key(self) -> EventKey:
        """The command's key: its id may be another command's in another aggregate."""
        return EventKey(self.aggregate_id, self.command_id)


async def end_offsets(reader: LogReader, topic: str) -> dict[int, int]:
    """The end of a topic of replies by partition: replies to later commands come after it."""
    bounds = await reader.watermarks(topic)
    return {partition: limit.end for partition, limit in bounds.items()}


async def await_replies(
    report: LoadReport,
    topics: Topics,
    group_progress: GroupProgress,
    starts: Mapping[int, int],
    progress: ProgressCallback = ignore_progress,
) -> None:
    """Wait until the command role has processed the load, then count replies from `starts` on.

    Once for each report. Keeps in memory the ids of one partition's commands at a time.
    """

    async def classify(committed: Mapping[int, int]) -> None:
        bounds = await group_progress.reader.watermarks(topics.replies)
        for partition in sorted(report.placements.ends):
            waiting = defaultdict[EventKey, list[Placement]](list)
            for at in _placed(report, partition):
                waiting[at.key].append(at)
            start, end = starts.get(partition, 0), bounds[partition].end
            async for record in group_progress.reader.read(topics.replies, partition, start, end):
                reply = msgspec.json.decode(record.value or b"", type=LoadReply)
                if placed := waiting.get(reply.key):
                    _count(report, reply, placed.pop(0))
            unanswered = [at for placed in waiting.values() for at in placed]
            _count_unanswered(report, unanswered, committed.get(partition, 0), topics)

    await await_group(report, topics.commands, group_progress, classify, progress)


def _placed(report: LoadReport, partition: int) -> list[Placement]:
    pages = report.placements.pages()
    return [at for page in pages for at in page if at.partition == partition]


def _count(report: LoadReport, reply: LoadReply, at: Placement) -> None:
    match reply.outcome:
        case "accepted":
            report.accepted += 1
        case "repeated":
            report.repeated += 1
        case "rejected":
            report.reject(reply.reason, at)
        case other:
            report.refuse_placed(f"command {reply.command_id}: replied {other!r}", at)


def _count_unanswered(
    report: LoadReport, unanswered: Iterable[Placement], passed: int, topics: Topics
) -> None:
    """Count commands without a reply: dead letters if the role has passed them, else pending."""
    for at in unanswered:
        if at.offset < passed:
            where = f"{topics.commands}, partition {at.partition}, offset {at.offset}"
            report.refuse_placed(f"{where}: no reply, see {topics.dead_letters}", at)
        else:
            report.pending += 1
