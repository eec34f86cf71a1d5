"""The domain of a document collection, for the fleet's workers and queries."""

from collections.abc import Sequence
from typing import Any

import msgspec

from eventfleet.documents.diff import ChangeOperation, Diff, apply_diff
from eventfleet.documents.mapper import EventMapper
from eventfleet.model.command_rules import Rejection
from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Event, State
from eventfleet.snapshot_rules import Rule


class DocumentChanged(Event):
    """The payload of a document's events: those of a collection are named for its type."""

    operation: ChangeOperation
    diff: Diff
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


class DocumentState(State):
    """A document as JSON, without its id; None where there is none."""

    document: dict[str, Any] | None = None
    version: int = 0


class EditDocument(Command):
    """A command that is always rejected: documents are edited through their storage."""


def document_domain(
    collection: str,
    kind: type[Any],
    *,
    mapper: EventMapper | None = None,
    routes: Sequence[Route] = (),
    snapshot: Rule | None = None,
) -> Domain[DocumentState]:
    """Return the domain whose events are the changes of a collection.

        users = document_domain("users", User, routes=[Route("users.changed")])

    It is synchronous: the storage puts the events, append places them, and relay routes them. Give
    it the mapper of the storage, where that names the default events.
    """
    names = mapper or EventMapper()
    names.register_type(collection, kind.__name__)
    events: list[Any] = [
        msgspec.defstruct(
            names.event_type(collection, operation),
            [],
            bases=(DocumentChanged,),
            kw_only=True,
            frozen=True,
            forbid_unknown_fields=True,
            module=__name__,
        )
        for operation in ChangeOperation
    ]
    return Domain(
        collection,
        state=DocumentState,
        evolve=evolve,
        events=events,
        commands=[EditDocument],
        decide=decide,
        routes=routes,
        snapshot=snapshot,
    )


def evolve(state: DocumentState, event: DocumentChanged) -> DocumentState:
    """Apply a change; the first one of an adopted document brings what was there."""
    before = event.metadata.get("adopted_doc", state.document)
    return DocumentState(document=apply_diff(before, event.diff), version=event.diff.version)


def decide(state: DocumentState, command: Command) -> Rejection:
    """Reject every command."""
    return Rejection("documents are edited through eventfleet.documents, not by commands")
