"""A domain whose evolve and route raise on some events, until MENDED is set."""

import os

from msgspec.structs import replace

from eventfleet import Domain, Event, Route, State
from eventfleet.snapshot_rules import every
from eventfleet.topics.event import EventRecord

OUT = "poisoned.out"
POISON = "poison"


class Noted(Event):
    text: str


class Notes(State):
    texts: tuple[str, ...] = ()


def check(text: str) -> None:
    if text.startswith(POISON) and not os.environ.get("MENDED"):
        raise LookupError("no such text")


def evolve(notes: Notes, event: Noted) -> Notes:
    check(event.text)
    return replace(notes, texts=(*notes.texts, event.text))


def is_any(event: EventRecord) -> bool:
    check(event.data["text"])
    return True


poisoned = Domain(
    "poisoned",
    state=Notes,
    evolve=evolve,
    events=[Noted],
    snapshot=every(2),
    routes=[Route(OUT, when=is_any)],
)
