"""Answers to synchronous commands that were accepted before."""

from typing import Any

from eventfleet.deciders.command_event import event_id
from eventfleet.deciders.outcomes import IdReused, Outcome, Repeated, Unavailable
from eventfleet.deciders.state_command import StateCommand
from eventfleet.states.querier import Querier
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.event import EventRecord


async def repeat_answer(
    querier: Querier[Any], command: StateCommand, first: EventRecord, place: str
) -> Outcome:
    """The first answer to a command whose first event is stored; IdReused to another command.

    An event without a fingerprint was stored when the domain was asynchronous.
    """
    if first.fingerprint not in (None, command.event.fingerprint):
        return IdReused(f"the command's id was used for another, which made {first.type}")
    try:
        version = await _last_version(querier, command.command_id, first)
    except ServerUnavailable as error:
        return Unavailable(str(error))
    return Repeated(first.id, place, version)


async def _last_version(querier: Querier[Any], command_id: str, first: EventRecord) -> int:
    """The version of the last event that the command made."""
    version = first.version
    async for event in querier.read_stored(first.aggregate_id, version):
        index = event.version - first.version
        if event.id != event_id(first.domain, first.aggregate_id, command_id, index):
            break
        version = event.version
    return version
