"""A domain of which OLD is an older declaration: it does not know the event Packed."""

import os

from eventfleet import START, Domain, Emits, Event, Route, State
from eventfleet.snapshot_rules import every


class Placed(Event):
    pass


class Packed(Event):
    pass


class Shipped(Event):
    pass


class Parcel(State):
    events: int = 0


def evolve(parcel: Parcel, event: Placed | Packed | Shipped) -> Parcel:
    return Parcel(parcel.events + 1)


OLD = bool(os.environ.get("OLD"))

rollout = Domain(
    "rollout",
    state=Parcel,
    evolve=evolve,
    events=[Placed, Shipped] if OLD else [Placed, Packed, Shipped],
    commands=[
        Emits("Place", Placed, after={START}),
        *([] if OLD else [Emits("Pack", Packed, after={Placed})]),
        Emits("Ship", Shipped, after={Placed} if OLD else {Placed, Packed}),
    ],
    snapshot=every(2),
    routes=[Route("rollout.out")],
)
