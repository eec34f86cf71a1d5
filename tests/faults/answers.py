"""What senders of commands were answered in an outage."""

from collections import Counter
from collections.abc import Sequence

from eventfleet.topics.event import EventRecord
from tests.faults.command_oracle import TAKEN_OUTCOMES
from tests.faults.outage import OutageFleet


def assert_answered(fleet: OutageFleet, events: Sequence[EventRecord]) -> None:
    """Each command was taken, and not as a new one twice: a reply may be lost with its chunk."""
    replies = [reply for reply in fleet.replies() if reply["outcome"] in TAKEN_OUTCOMES]
    assert {reply["event_id"] for reply in replies} == {event.id for event in events}
    accepted = Counter(r["event_id"] for r in replies if r["outcome"] == "accepted")
    assert set(accepted.values()) == {1}
