from msgspec.structs import replace

from eventfleet import START, Command, Domain, Emits, Event, State, every


class Post(Command):
    grams: int


class Posted(Event):
    grams: int


class Deliver(Command):
    pass


class Delivered(Event):
    pass


class Parcel(State):
    grams: int = 0
    delivered: bool = False


def evolve(parcel: Parcel, event: Event) -> Parcel:
    match event:
        case Posted(grams=grams):
            return replace(parcel, grams=grams)
        case Delivered():
            return replace(parcel, delivered=True)
    raise TypeError(type(event).__name__)


parcels = Domain(
    "parcels",
    state=Parcel,
    evolve=evolve,
    events=[Posted, Delivered],
    commands=[
        Emits(Post, Posted, after={START}),  # START: the parcel has no event yet
        Emits(Deliver, Delivered, after={Posted}),
    ],
    snapshot=every(100),
)
