from eventfleet import START, Command, Domain, Emits, Event, State, every


class Post(Command):
    grams: int


class Posted(Event):
    grams: int


class Deliver(Command): ...


class Delivered(Event): ...


class Parcel(State):
    grams: int = 0
    delivered: bool = False


def evolve(parcel: Parcel, event: Event) -> Parcel:
    match event:
        case Posted(grams=grams):
            return Parcel(grams=grams)
        case Delivered():
            return Parcel(grams=parcel.grams, delivered=True)
    raise TypeError(type(event).__name__)


parcels = Domain(
    "parcels",
    state=Parcel,
    evolve=evolve,
    events=[Posted, Delivered],
    commands=[Emits(Post, Posted, after={START}), Emits(Deliver, Delivered, after={Posted})],
    snapshot=every(100),
)
