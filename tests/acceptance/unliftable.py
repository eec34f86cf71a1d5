"""A domain whose upcaster raises on some events, until MENDED is set: append can't place them."""

import os
from typing import Any

from msgspec.structs import replace

from eventfleet import Domain, Event, Route, State

POISON = "poison"


class Noted(Event):
    text: str


class Notes(State):
    texts: tuple[str, ...] = ()


def evolve(notes: Notes, event: Noted) -> Notes:
    return replace(notes, texts=(*notes.texts, event.text))


def lift(data: dict[str, Any]) -> dict[str, Any]:
    if data["text"].startswith(POISON) and not os.environ.get("MENDED"):
        raise LookupError("no such text")
    return data


unliftable = Domain(
    "unliftable",
    state=Notes,
    evolve=evolve,
    events=[Noted],
    upcasters={Noted: [lift]},
    routes=[Route("unliftable.out")],
)
