"""A domain of which NEWER is a newer declaration: the event Moved has another schema version."""

import os

from msgspec.structs import replace

from eventfleet import START, Domain, Emits, Event, Route, Row, State, View
from eventfleet.snapshot_rules import every

NEWER = bool(os.environ.get("NEWER"))


class Placed(Event):
    pass


class Moved(Event):
    to: int


class MovedOnALane(Event):
    event_type = "Moved"
    to: int
    lane: str


class Parcel(State):
    at: int = 0
    lane: str = "main"


class Place(Row):
    at: int = 0
    moves: int = 0


Moves = MovedOnALane if NEWER else Moved


def evolve(parcel: Parcel, event: Event) -> Parcel:
    return replace(parcel, at=event.to) if isinstance(event, Moves) else parcel


def project(row: Place | None, event: object) -> Place:
    row, data = row or Place(), event.data  # type: ignore[attr-defined]
    return Place(data.to, row.moves + 1) if isinstance(data, Moves) else row


rolled = Domain(
    "rolled",
    state=Parcel,
    evolve=evolve,
    events=[Placed, Moves],
    upcasters={Moves: [lambda data: {"lane": "main"} | data]} if NEWER else {},
    commands=[
        Emits("Place", Placed, after={START}),
        Emits("Move", Moves, after={Placed, Moves}),
    ],
    snapshot=every(5),
    routes=[Route("rolled.out")],
    views=[View("places", row=Place, project=project)],
)
