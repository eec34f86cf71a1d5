"""The rows of one bucket, sorted out by event."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from eventfleet.audit.repairs import Repairs
from eventfleet.audit.rows import (
    AcceptedReply,
    AnyRow,
    DeadLetter,
    DiscardDecision,
    EventCopy,
    EventInStore,
    FoldedState,
    LoggedEvent,
    MarkedEvent,
    PublishedState,
    Successor,
    UnreadableRecord,
)
from eventfleet.topics.event import Position


class EventRows:
    """All rows with the same aggregate id and event id."""

    __slots__ = (
        *("stored", "logged", "unreadable", "copies", "dead_letters", "replies"),
        *("successors", "marked", "folded", "published", "decision"),
    )

    def __init__(self) -> None:
        self.stored: EventInStore | None = None
        self.marked: MarkedEvent | None = None
        self.published: PublishedState | None = None
        self.decision: DiscardDecision | None = None
        self.logged: list[LoggedEvent] = []
        self.unreadable: list[UnreadableRecord] = []
        self.copies: list[EventCopy] = []
        self.dead_letters: list[DeadLetter] = []
        self.replies: list[AcceptedReply] = []
        self.successors: list[Successor] = []
        self.folded: list[FoldedState] = []

    def add(self, row: AnyRow) -> None:
        """Add a row."""
        match row:
            case EventCopy():
                self.copies.append(row)
            case LoggedEvent():
                self.logged.append(row)
            case EventInStore():
                self.stored = row
            case AcceptedReply():
                self.replies.append(row)
            case DeadLetter():
                self.dead_letters.append(row)
            case UnreadableRecord():
                self.unreadable.append(row)
            case Successor():
                self.successors.append(row)
            case MarkedEvent():
                self.marked = row
            case FoldedState():
                self.folded.append(row)
            case PublishedState():
                self.published = row
            case DiscardDecision():
                self.decision = row


def group_rows(rows: Iterable[AnyRow]) -> Iterable[EventRows]:
    """Sort rows out by aggregate id and event id."""
    groups: defaultdict[tuple[str, str], EventRows] = defaultdict(EventRows)
    for row in rows:
        groups[row.aggregate_id, row.event_id].add(row)
    return groups.values()


def mark_late(rows: Iterable[AnyRow], repairs: Repairs) -> Iterator[AnyRow]:
    """Mark copies that come after a copy of a higher version of their aggregate.

    The rows have whole aggregates, and the copies of each topic in its order. Copies that a repair
    explains neither are late nor make others so.
    """
    highest: dict[tuple[int, str], int] = {}
    for row in rows:
        if type(row) is EventCopy and not (
            repairs and repairs.explaining(Position.parse(row.position))
        ):
            key = row.topic, row.aggregate_id
            row.late = row.version <= highest.get(key, 0)
            if not row.late:
                highest[key] = row.version
        yield row
