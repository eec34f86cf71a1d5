"""What the marker promises, said without it: answers against the store, and who followed whom."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from eventfleet.deciders.outcomes import Accepted, Failed, Outcome, Rejected, Repeated, Unavailable
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import LogRecord
from tests.simulation.checker import BrokenInvariant, History, event_of
from tests.simulation.commands import MAY_FOLLOW


@dataclass
class Request:
    """One time that a command was sent; without an outcome its service was killed.

    `parked_since`: the step since which its aggregate is parked, if its service knew that.
    """

    event_id: str
    type: str
    aggregate_id: str
    began: int
    ended: int | None = None
    outcome: Outcome | None = None
    parked_since: int | None = None

    @property
    def positive(self) -> bool:
        return isinstance(self.outcome, Accepted | Repeated)

    @property
    def unknown(self) -> bool:
        """Unknown whether the event is stored: a command on a parked aggregate may stand noted."""
        return self.outcome is None or isinstance(self.outcome, Unavailable | Failed)


Requests = Mapping[str, list[Request]]
Arrivals = Mapping[str, int]
"""The step in which each stored event came into the log, by event id."""


def check_successions(kind: str, streams: Mapping[str, list[EventRecord]]) -> None:
    """Each event may stand where it stands."""
    for aggregate_id, events in streams.items():
        before = ""
        for event in events:
            if before not in MAY_FOLLOW[event.type]:
                told = [(e.id, e.type) for e in events]
                raise BrokenInvariant(f"forbidden in {kind}", f"{before} {event.type}: {told}")
            before = event.type
        if len({event.id for event in events}) != len(events):
            raise BrokenInvariant(f"twice in {kind}", f"{aggregate_id}: {[e.id for e in events]}")


def check_streams(stored: History, emitted: Mapping[str, list[EventRecord]]) -> None:
    """Versions are 1..n, and `.stored` has just that, and who waits for an event."""
    for aggregate_id, events in stored.items():
        versions = [event.version for event in events]
        if versions != list(range(1, len(events) + 1)):
            raise BrokenInvariant("gap", f"{aggregate_id} has versions {versions}")
    if _unaddressed(stored) != _unaddressed(emitted):
        raise BrokenInvariant("emitted otherwise than stored", f"{emitted}, {stored}")


def _unaddressed(streams: Mapping[str, list[EventRecord]]) -> History:
    return {key: [replace(each, reply_to=None) for each in of] for key, of in streams.items()}


def streams(records: Mapping[int, Iterable[LogRecord]]) -> dict[str, list[EventRecord]]:
    """By aggregate, the events of a topic in order."""
    found: dict[str, list[EventRecord]] = {}
    for partition in sorted(records):
        for event in map(event_of, records[partition]):
            found.setdefault(event.aggregate_id, []).append(event)
    return found


def first_copies(streams: Mapping[str, list[EventRecord]]) -> dict[str, list[EventRecord]]:
    """Without the repeats of an event id."""
    copies: dict[str, dict[str, EventRecord]] = {}
    for key, events in streams.items():
        for event in events:
            copies.setdefault(key, {}).setdefault(event.id, event)
    return {key: list(firsts.values()) for key, firsts in copies.items()}


def check_answers(requests: Requests, stored: History) -> None:
    """What was said of a command is true."""
    counts = Counter(event.id for events in stored.values() for event in events)
    for event_id, asked in requests.items():
        said = [request.outcome for request in asked]
        if any(request.positive for request in asked):
            if counts[event_id] != 1:
                raise BrokenInvariant("accepted but not stored", f"{event_id}: {counts[event_id]}")
        elif not any(request.unknown for request in asked) and counts[event_id]:
            raise BrokenInvariant("rejected but stored", f"{event_id}: {said}")
        _check_repeats(event_id, asked)


def check_refusals(requests: Requests, stored: History, arrivals: Arrivals) -> None:
    """What is stored was asked for by a call that was not refused, no later than it came into the
    log."""
    ids = {event.id for events in stored.values() for event in events}
    for event_id in requests.keys() & ids:
        asked = [each for each in requests[event_id] if each.unknown or each.positive]
        if not any(each.began <= arrivals[event_id] for each in asked):
            raise BrokenInvariant("refused but stored", f"{event_id}: {requests[event_id]}")


def check_final(final: Requests, stored: History) -> None:
    """Nobody else asks any more: what is rejected now is not there, and will never be."""
    counts = Counter(event.id for events in stored.values() for event in events)
    for event_id, asked in final.items():
        if isinstance(asked[-1].outcome, Rejected) and counts[event_id]:
            raise BrokenInvariant("rejected but stored", f"{event_id}: {asked}")


def check_rejections(
    requests: Requests, stored: History, arrivals: Arrivals, ends: Arrivals
) -> None:
    """Who was rejected met an event, the latest of its time, that the rule names no successor of.

    An event is the latest one from its arrival in the log until the next one `ends` it: by its own
    arrival, or where Redis has lost its data when it is stored. A marker made anew may miss an
    event that was noted before, and is told accepted only then.
    """
    for asked in requests.values():
        for request in asked:
            if isinstance(request.outcome, Rejected):
                events = stored.get(request.aggregate_id, [])
                latest = _latest_types(request, events, arrivals, ends)
                _check_rejection(request, request.outcome, latest)


def _check_rejection(request: Request, said: Rejected, latest: set[str]) -> None:
    if said.marked in MAY_FOLLOW[request.type]:
        raise BrokenInvariant("rejected although allowed", request)
    if said.marked not in latest:
        raise BrokenInvariant("rejected for what was not there", f"{request}, there was {latest}")


def _latest_types(
    request: Request, events: list[EventRecord], arrivals: Arrivals, ended: Arrivals
) -> set[str]:
    """The types of the events that were the latest ones at some time of a request."""
    assert request.ended is not None
    types = ["", *(event.type for event in events)]
    begins = [0, *(arrivals[event.id] for event in events)]
    ends = [*(ended[event.id] for event in events), request.ended]
    return {
        kind
        for kind, begin, end in zip(types, begins, ends, strict=True)
        if begin <= request.ended and request.began <= end
    }


def check_accepted_once(requests: Mapping[str, list[Request]]) -> None:
    """At most one call of a command is accepted: nothing was lost, and no answer of a server."""
    for event_id, asked in requests.items():
        if sum(isinstance(request.outcome, Accepted) for request in asked) > 1:
            raise BrokenInvariant("accepted twice", f"{event_id}: {asked}")


def _check_repeats(event_id: str, asked: list[Request]) -> None:
    """Who asks after an acceptance gets it again, with the same event and place."""
    positive = [request for request in asked if request.positive]
    if len({(r.outcome.event_id, r.outcome.place) for r in positive}) > 1:  # type: ignore[union-attr]
        raise BrokenInvariant("repeated otherwise", f"{event_id}: {positive}")
    known = min((r.ended for r in positive if r.ended is not None), default=None)
    for request in asked:
        later = known is not None and request.began > known
        if later and isinstance(request.outcome, Accepted):
            raise BrokenInvariant("accepted again", f"{event_id}: {asked}")
        if later and isinstance(request.outcome, Rejected):
            raise BrokenInvariant("rejected after it was accepted", f"{event_id}: {asked}")
