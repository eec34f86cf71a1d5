"""A synchronous domain whose evolve raises on some events, until MENDED is set.

The mended code has snapshots of its own.
"""

import os

from msgspec.structs import replace

from eventfleet import Command, Domain, Event, Route, State

POISON = "poison"
MENDED = bool(os.environ.get("MENDED"))


class Noted(Event):
    text: str


class Note(Command):
    text: str


class Notes(State):
    texts: tuple[str, ...] = ()


def evolve(notes: Notes, event: Noted) -> Notes:
    if event.text.startswith(POISON) and not MENDED:
        raise LookupError("no such text")
    return replace(notes, texts=(*notes.texts, event.text))


def decide(notes: Notes, command: Note) -> Noted:
    return Noted(text=command.text)


unfoldable = Domain(
    "unfoldable",
    state=Notes,
    state_version=2 if MENDED else 1,
    evolve=evolve,
    events=[Noted],
    commands=[Note],
    decide=decide,
    routes=[Route("unfoldable.out")],
)
