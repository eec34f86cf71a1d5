"""A team's project, whose packages have the names of our rooms and former rooms."""

from pathlib import Path

PARCELS = '''
"""Parcels: a domain whose commands have after-rules."""

from msgspec.structs import replace

from eventfleet import START, Command, Domain, Emits, Event, Route, State, every
from topics.names import OUTBOX


class Posted(Event):
    grams: int


class Scanned(Event):
    place: str


class Delivered(Event):
    pass


class Parcel(State):
    status: str = "new"
    grams: int = 0
    places: list[str] = []


def evolve(parcel: Parcel, event: Event) -> Parcel:
    match event:
        case Posted(grams=grams):
            return replace(parcel, status="posted", grams=grams)
        case Scanned(place=place):
            return replace(parcel, status="on its way", places=[*parcel.places, place])
        case Delivered():
            return replace(parcel, status="delivered")
    raise TypeError(f"no rule for {type(event).__name__}")


class Post(Command):
    grams: int


class Scan(Command):
    place: str


class Deliver(Command):
    pass


parcels = Domain(
    "parcels",
    state=Parcel,
    evolve=evolve,
    events=[Posted, Scanned, Delivered],
    commands=[
        Emits(Post, Posted, after=frozenset({START})),
        Emits(Scan, Scanned, after=frozenset({Posted, Scanned})),
        Emits(Deliver, Delivered, after=frozenset({Scanned})),
    ],
    snapshot=every(2),
    routes=[Route(OUTBOX, types=frozenset({Delivered}))],
)
'''
PROGRAM = '''
"""Imports every public face of eventfleet beside the team's own packages, in one process."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import domains.parcels
import eventfleet
import eventfleet.commands
import eventfleet.errors
import eventfleet.http
import eventfleet.queries
import eventfleet.testing
import protocols.greeting
import service.postage
import stores.shelf
import topics.names
import workers.courier
from domains.parcels import Deliver, Parcel, Post, Posted, Scan, Scanned, parcels
from eventfleet.testing import given


async def scan(parcel: str, place: str) -> str:
    """A program beside a running fleet: it sends a command, then reads the state."""
    settings = eventfleet.commands.load_settings()
    async with eventfleet.commands.event_service(settings, parcels) as service:
        outcome = await service.send(parcel, "Scan", {"place": place})
        if not isinstance(outcome, eventfleet.commands.Accepted):
            return "refused"
    async with eventfleet.queries.querier(settings, parcels) as queries:
        found = await queries.latest(parcel)
        state: Parcel | None = found.state if found else None
        return state.status if state else ""


@asynccontextmanager
async def application() -> AsyncIterator[eventfleet.http.Application]:
    """A program that serves the domain inside an application of its own."""
    settings = eventfleet.http.load_settings()
    async with eventfleet.http.http_application(settings, {"parcels": parcels}) as found:
        yield found


def check() -> None:
    """The domain's rules, without a server."""
    parcel = given(parcels, Posted(grams=5), Scanned(place="north"))
    parcel.when(Scan(place="south")).then(Scanned(place="south"))
    state: Parcel = parcel.state(grams=5, places=["north"])
    assert state.status == "on its way"
    given(parcels).when(Deliver()).rejected("Delivered may follow Scanned")
    given(parcels).when(Post(grams=5)).then(Posted(grams=5))


def main() -> None:
    check()
    assert issubclass(eventfleet.errors.DeclarationError, eventfleet.EventfleetError)
    own = [domains.parcels, topics.names, workers.courier]
    own += [stores.shelf, service.postage, protocols.greeting]
    for module in own:
        assert Path(module.__file__ or "").parent.parent == Path(__file__).parent, module
    assert workers.courier.greeted("ann") == "hello, ann"
    assert service.postage.cents(20) == 3 * stores.shelf.PRICE
    print(eventfleet.__file__)
    print(*sorted(name for name in sys.modules if "." not in name))


if __name__ == "__main__":
    main()
'''
FILES = {
    "domains/parcels.py": PARCELS,
    "topics/names.py": 'OUTBOX = "parcels.delivered"\n',
    "stores/shelf.py": "PRICE = 90\n",
    "service/postage.py": (
        "from stores.shelf import PRICE\n\n\n"
        "def cents(grams: int) -> int:\n    return PRICE * (1 + grams // 10)\n"
    ),
    "protocols/greeting.py": 'HELLO = "hello"\n',
    "workers/courier.py": (
        "from protocols.greeting import HELLO\n\n\n"
        'def greeted(name: str) -> str:\n    return f"{HELLO}, {name}"\n'
    ),
    "program.py": PROGRAM,
}


def write_project(folder: Path) -> Path:
    """Write the files and the packages' `__init__.py` into an empty folder."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip())
        if path.parent != folder:
            (path.parent / "__init__.py").touch()
    return folder
