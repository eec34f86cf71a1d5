"""Stored events read in one step, each with its payload as evolve gets it.

For each event type there is a class with those of EventRecord's fields that folding takes, of which
`data` is the payload's own type. The decoder chooses among them by `type`.
"""

from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Any, Literal

import msgspec

from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Event
from eventfleet.topics.codec import decode_stored
from eventfleet.topics.event import WIRE_NAMES, EventRecord, FoldableEvent

DecodeEvent = Callable[[bytes | None], FoldableEvent]

FOLD_FIELDS = {"id", "aggregate_id", "time", "data", "schema_version", "version", "reply_to"}
"""What else append has written is skipped unread: fewer fields are made and unmade sooner."""


def make_typed_decoder(domain: Domain[Any]) -> DecodeEvent:
    """As `decode_stored`, but for `data` where an event of a declared type is in its newest schema;
    and of such an event no attributes but those of FoldableEvent.

    Domains without types, or that look at the size of payloads, get `decode_stored` itself; so do
    those of one type, for a decoder that has no choice does not miss an absent `type`.
    """
    if domain.needs_size or len(domain.events) < 2:
        return decode_stored
    classes = [
        _class_for(kind, domain.latest_schema_version(kind.__name__)) for kind in domain.events
    ]
    decode = msgspec.json.Decoder(reduce(or_, classes)).decode

    def read(value: bytes | None) -> FoldableEvent:
        try:
            event: FoldableEvent = decode(value or b"")
        except Exception:  # a payload's own code may raise anything: the long way tells it
            return decode_stored(value)
        return event

    return read


def _class_for(kind: type[Event], newest: int) -> Any:
    """Of events of this type in its newest schema, which on the wire may be absent if it is 1."""
    types = {"data": kind, "schema_version": Literal[newest]}
    defaults = {"schema_version": 1 if newest == 1 else msgspec.NODEFAULT}
    fields: list[tuple[str, Any, Any]] = [
        (f.name, types.get(f.name, f.type), msgspec.field(default=defaults.get(f.name, f.default)))
        for f in msgspec.structs.fields(EventRecord)
        if f.name in FOLD_FIELDS
    ]
    return msgspec.defstruct(
        kind.__name__,
        [("specversion", Literal["1.0"]), *fields],
        kw_only=True,
        frozen=True,
        gc=False,
        rename=WIRE_NAMES,
        tag_field="type",
        tag=kind.__name__,
        namespace={"type": kind.__name__},
    )
