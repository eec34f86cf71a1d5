"""A domain of commands whose rules leave much to forbid, and the table to judge it by."""

from eventfleet.model.command_rules import START, Emits
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Event, State

# Events


class Opened(Event):
    pass


class Lent(Event):
    pass


class Returned(Event):
    pass


class Sold(Event):
    pass


class Noted(Event):
    pass


# State and evolve


class Item(State):
    pass


def evolve(item: Item, event: Event) -> Item:
    return item


# Commands

COMMANDS = [
    Emits("Open", Opened, after=frozenset({START})),
    Emits("Lend", Lent, after=frozenset({Opened, Returned, Noted})),
    Emits("Return", Returned, after=frozenset({Lent})),
    Emits("Sell", Sold, after=frozenset({Opened, Returned, Noted})),
    Emits("Note", Noted),
]

# The Domain

items = Domain(
    "items",
    state=Item,
    evolve=evolve,
    events=[Opened, Lent, Returned, Sold, Noted],
    commands=COMMANDS,
)

# Said once more, by hand and without the declaration: what may stand directly before what.

ANYTHING = {"", "Opened", "Lent", "Returned", "Sold", "Noted"}
MAY_FOLLOW = {
    "Opened": {""},
    "Lent": {"Opened", "Returned", "Noted"},
    "Returned": {"Lent"},
    "Sold": {"Opened", "Returned", "Noted"},
    "Noted": ANYTHING,
}
