"""A domain whose evolve, route and view raise on some events, until MENDED is set."""

import os
from typing import Any

from msgspec.structs import replace

from eventfleet import Domain, Event, Route, Row, State, Totals, View
from eventfleet.model.views import ProjectedEvent
from eventfleet.snapshot_rules import every

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


def is_any(event: ProjectedEvent) -> bool:
    check(event.data.text)
    return True


class NotesRow(Row):
    texts: tuple[str, ...] = ()


class Sizes(Row):
    kind: str = "notes"
    aggregates: int = 0
    texts: int = 0


def project_notes(row: NotesRow | None, event: Any) -> NotesRow:
    check(event.data.text)
    return NotesRow(texts=(*(row.texts if row else ()), event.data.text))


notes = View(
    "notes",
    row=NotesRow,
    project=project_notes,
    totals=[
        Totals(
            "sizes",
            row=Sizes,
            by=["kind"],
            group=lambda row: Sizes(),
            add=lambda total, row: replace(
                total, aggregates=total.aggregates + 1, texts=total.texts + len(row.texts)
            ),
            remove=lambda total, row: replace(
                total, aggregates=total.aggregates - 1, texts=total.texts - len(row.texts)
            ),
            merge=lambda one, other: replace(
                one, aggregates=one.aggregates + other.aggregates, texts=one.texts + other.texts
            ),
        )
    ],
)

poisoned = Domain(
    "poisoned",
    state=Notes,
    evolve=evolve,
    events=[Noted],
    snapshot=every(2),
    routes=[Route(OUT, when=is_any)],
    views=[notes],
)
