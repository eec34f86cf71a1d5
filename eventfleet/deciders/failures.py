"""Failures: the outcomes of commands on which the domain's own code raised."""

from eventfleet.deciders.outcomes import Failed
from eventfleet.model.team_traceback import team_traceback
from eventfleet.states.live_state import ReplayFailed
from eventfleet.topics.errors import NewerSchema
from eventfleet.topics.event import EventRecord, FoldableEvent
from eventfleet.topics.parked import UNDECLARED

MAX_DETAILS_CHARS = 10_000


def decide_failed(command: str, domain: str, aggregate_id: str, error: Exception) -> Failed:
    """The outcome of a command, given by its name and id, whose decision raised.

    Also where `decide` returned something that is not an event of the domain, or an event that
    `evolve` raises on.
    """
    if isinstance(error, ReplayFailed):
        error = error.cause
    if isinstance(error, NewerSchema):
        return Failed("newer-schema", f"{domain} {aggregate_id!r}: {command}: {error.reason}")
    reason = f"{domain} {aggregate_id!r}: {command} can't be decided: the domain's code raised"
    return Failed("decide-failed", f"{reason} {type(error).__name__}", _details(error))


def replay_failed(domain: str, error: ReplayFailed) -> Failed:
    """The outcome of a command whose aggregate can't be folded, or by a newer deployment only."""
    if isinstance(error.cause, NewerSchema):
        return Failed("newer-schema", f"{_event(domain, error.event)}: {error.cause.reason}")
    reason = f"{_event(domain, error.event)} can't be replayed: the domain's code raised"
    return Failed("replay-failed", f"{reason} {type(error.cause).__name__}", _details(error.cause))


def aggregate_parked(event: EventRecord, why: str) -> Failed:
    """The outcome of a command on an aggregate of which append parks an event, as `why` says."""
    reason = f"append parks an event of {event.domain} {event.aggregate_id!r}"
    name, _, older = why.partition(": ")
    if name == UNDECLARED:
        return Failed("newer-schema", f"{reason}: {older}")
    return Failed("aggregate-parked", f"{reason}: see `eventfleet deadletters list`")


def _event(domain: str, event: FoldableEvent) -> str:
    return f"{domain} {event.aggregate_id!r} version {event.version}, {event.type}"


def _details(error: Exception) -> str:
    """The traceback as text: an exception kept would keep the frames of its call, and all that
    they hold."""
    return team_traceback(error)[-MAX_DETAILS_CHARS:]
