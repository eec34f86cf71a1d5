"""What a shop makes of commands, by a table of its own: none of the product's rules."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from eventfleet.topics.event import EventRecord

# What each command makes of an order after which event.
TABLE = {
    ("", "Place"): "Placed",
    ("Placed", "Pay"): "Paid",
    ("Paid", "Pack"): "Packed",
    ("Packed", "Ship"): "Shipped",
    ("Shipped", "Deliver"): "Delivered",
    ("Placed", "Cancel"): "Cancelled",
    ("Paid", "Cancel"): "Cancelled",
    ("Delivered", "Return"): "Returned",
}


@dataclass
class Judged:
    """`latest`: each order's latest event. `types`: of the events. `rejected`: by command and
    event, as `Pay after Cancelled`."""

    latest: dict[str, str] = field(default_factory=dict)
    types: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    repeated: int = 0


def judge(commands: Iterable[EventRecord]) -> Judged:
    """The commands one after the other; one accepted before is repeated."""
    judged = Judged()
    accepted: set[str] = set()
    for command in commands:
        before = judged.latest.get(command.aggregate_id, "")
        if command.id in accepted:
            judged.repeated += 1
        elif after := TABLE.get((before, command.type)):
            accepted.add(command.id)
            judged.latest[command.aggregate_id] = after
            judged.types[after] += 1
        else:
            judged.rejected[f"{command.type} after {before}"] += 1
    return judged
