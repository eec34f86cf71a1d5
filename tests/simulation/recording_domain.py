"""The smallest domain whose state tells exactly which events were folded, in which order."""

from dataclasses import replace as with_changes

from msgspec.structs import replace

from eventfleet.model.command_rules import START, Emits
from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Event, State
from eventfleet.model.views import ProjectedEvent
from eventfleet.snapshot_rules import every

# Events


class Counted(Event):
    n: str
    loud: bool = False
    poison: bool = False


# State and evolve


class Tally(State):
    trail: tuple[str, ...] = ()


def evolve(tally: Tally, event: Counted) -> Tally:
    return replace(tally, trail=(*tally.trail, event.n))


# Commands


class Count(Command):
    n: str


def decide(tally: Tally, command: Count) -> Counted:
    return Counted(n=command.n)


# Snapshot rule

EVERY = 2

# Routes


def is_loud(event: ProjectedEvent) -> bool:
    return event.data.loud


ALL, LOUD = "out.all", "out.loud"

# The Domain

tally = Domain(
    "tally",
    state=Tally,
    evolve=evolve,
    events=[Counted],
    snapshot=every(EVERY),
    routes=[Route(ALL), Route(LOUD, when=is_loud)],
)

# The same domain with commands: decided on the marker, or on the latest state

marker_tally = with_changes(
    tally, commands=[Emits(Count, Counted, after=frozenset({START, Counted}))]
)
sync_tally = with_changes(tally, commands=[Count], decide=decide)

# The same domain as a team has it that makes a mistake, until it is mended


class PoisonedCode:
    """Code that raises on events with `poison`, until it is `mended`."""

    def __init__(self) -> None:
        self.mended = False

    def check(self, poison: bool) -> None:
        if poison and not self.mended:
            raise ZeroDivisionError("by nought")

    def evolve(self, tally: Tally, event: Counted) -> Tally:
        self.check(event.poison)
        return evolve(tally, event)

    def is_any(self, event: ProjectedEvent) -> bool:
        self.check(event.data.poison)
        return True


def with_poison(code: PoisonedCode) -> Domain[Tally]:
    return with_changes(
        tally,
        evolve=code.evolve,
        routes=[Route(ALL, when=code.is_any), Route(LOUD, when=is_loud)],
    )
