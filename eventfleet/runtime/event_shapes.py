"""The shapes of events: what a domain declares must read what its store holds."""

import logging
from collections.abc import Collection, Sequence
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.model.event_shapes import (
    EventShape,
    ShapeUpdate,
    declared_shapes,
    short_shapes,
    update_shapes,
    without_events,
)
from eventfleet.stores.contracts import EventStore
from eventfleet.stores.errors import Misconfigured, ServerUnavailable

MAX_TRIES = 10
RAISE_SCHEMA_VERSION = (
    "Raise the schema version: give the domain an upcaster from the stored payload to the new one, "
    "`upcasters={Event: [..., upcaster]}` (`lambda data: data` where none has to change); or "
    "declare the event as it was"
)

logger = logging.getLogger(__name__)


async def register_event_shapes(
    domain: Domain[Any], store: EventStore, roles: Collection[str] = ()
) -> None:
    """Record the shapes of the declared events with the stored ones, and for a worker's roles.

    Misconfigured: a class has changed so that it does not read the stored payloads of its schema
    version, or reads them otherwise.
    """
    for _ in range(MAX_TRIES):
        recorded = await store.registry.event_shapes()
        update = await compare_event_shapes(domain, store, recorded)
        if update.refused:
            raise _misconfigured(domain, update.refused)
        if update.shapes == recorded or await store.registry.replace_event_shapes(
            recorded, update.shapes
        ):
            if roles:
                await store.registry.note_declaration(roles, short_shapes(domain))
            for event in update.older:
                logger.warning(
                    "domain %s: %s is declared as it was before: this code may not read events "
                    "that newer code has stored",
                    *(domain.name, event),
                )
            return
    raise ServerUnavailable(f"domain {domain.name}: others record the shapes of events")


async def compare_event_shapes(
    domain: Domain[Any], store: EventStore, recorded: Sequence[EventShape]
) -> ShapeUpdate:
    """Compare the declared shapes with the recorded ones; without events none is refused."""
    declared = declared_shapes(domain)
    update = update_shapes(recorded, declared)
    if update.refused and not (await store.aggregates("", 1)).items:
        return without_events(recorded, declared)
    return update


def _misconfigured(domain: Domain[Any], refused: list[str]) -> Misconfigured:
    lines = [f"domain {domain.name}: {line}" for line in refused]
    return Misconfigured(
        "\n".join(
            [
                *lines,
                "Stored events of these schema versions do not fit that, and are never rewritten. "
                f"{RAISE_SCHEMA_VERSION}. Where the events may go, begin with an empty store",
            ]
        )
    )
