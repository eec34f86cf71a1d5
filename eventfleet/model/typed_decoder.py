"""Decodes stored events in one step, each with its payload as `evolve` gets it.

For each event type there is a class with the fields of EventRecord that folding takes, where `data`
is of the payload's own type. The decoder chooses among the classes by `type`.
"""

from collections.abc import Callable, Collection
from functools import reduce
from operator import or_
from typing import Any, Literal

import msgspec

from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Event
from eventfleet.topics.codec import decode_stored
from eventfleet.topics.event import WIRE_NAMES, EventRecord, FoldableEvent
from eventfleet.topics.names import wire_name

DecodeEvent = Callable[[bytes | None], FoldableEvent]

FOLD_FIELDS = frozenset(
    {"id", "aggregate_id", "time", "data", "schema_version", "version", "reply_to"}
)
"""The decoder skips all other fields: making and freeing fewer objects is faster."""


def make_typed_decoder(domain: Domain[Any], fields: Collection[str] = FOLD_FIELDS) -> DecodeEvent:
    """Make a decoder like `decode_stored` that also decodes payloads to their own types.

    It does so for events of a declared type in its newest schema; these have only the attributes
    `fields`, by default those of FoldableEvent. A domain without types, or whose snapshot rule uses
    the size of payloads, gets `decode_stored` itself; so does a domain of one type, since a decoder
    without a choice would accept a record that has no `type`.
    """
    if domain.needs_size or len(domain.events) < 2:
        return decode_stored
    classes = [
        _class_for(kind, domain.latest_schema_version(wire_name(kind)), fields)
        for kind in domain.events
    ]
    decode = msgspec.json.Decoder(reduce(or_, classes)).decode

    def decode_event(value: bytes | None) -> FoldableEvent:
        try:
            event: FoldableEvent = decode(value or b"")
        except Exception:  # a payload's own code may raise anything: decode_stored reports it
            return decode_stored(value)
        return event

    return decode_event


def _class_for(kind: type[Event], newest: int, names: Collection[str]) -> Any:
    """Make the class for one type's events in its newest schema, absent on the wire if it is 1."""
    types = {"data": kind, "schema_version": Literal[newest]}
    defaults = {"schema_version": 1 if newest == 1 else msgspec.NODEFAULT}
    fields: list[tuple[str, Any, Any]] = [
        (f.name, types.get(f.name, f.type), msgspec.field(default=defaults.get(f.name, f.default)))
        for f in msgspec.structs.fields(EventRecord)
        if f.name in names
    ]
    # A discarded event is not of this class, so it is decoded as an EventRecord, which says so.
    fields.append(("discarded", None, None))
    name = wire_name(kind)
    return msgspec.defstruct(
        kind.__name__,
        [("specversion", Literal["1.0"]), *fields],
        kw_only=True,
        frozen=True,
        gc=False,
        rename=WIRE_NAMES,
        tag_field="type",
        tag=name,
        namespace={"type": name},
    )
