"""A domain whose rules forbid most commands, and under which a door can be used for ever."""

from eventfleet.model.command_rules import START, Emits
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Event, State


class Opened(Event):
    pass


class Closed(Event):
    pass


class Locked(Event):
    pass


class Unlocked(Event):
    pass


class Knocked(Event):
    pass


class Door(State):
    events: int = 0


def evolve(door: Door, event: Event) -> Door:
    return Door(events=door.events + 1)


class Open(Command):
    pass


class Close(Command):
    pass


class Lock(Command):
    pass


class Unlock(Command):
    pass


class Knock(Command):
    pass


doors = Domain(
    "doors",
    state=Door,
    evolve=evolve,
    events=[Opened, Closed, Locked, Unlocked, Knocked],
    commands=[
        Emits(Open, Opened, after=frozenset({START, Closed, Unlocked})),
        Emits(Close, Closed, after=frozenset({Opened})),
        Emits(Lock, Locked, after=frozenset({Closed, Unlocked})),
        Emits(Unlock, Unlocked, after=frozenset({Locked, Knocked})),
        Emits(Knock, Knocked, after=frozenset({Locked})),
    ],
)
