"""Answers an auditor from a trading account's events.

`audit_trail` lists them one by one; `report` sums them up, and compares a state with the sums.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from eventfleet.domains.trading import (
    Bought,
    CashDeposited,
    CashWithdrawn,
    Portfolio,
    Sold,
    cost_of,
    evolve,
    trading,
)
from eventfleet.model.payloads import Event
from eventfleet.topics.event import EventRecord


@dataclass(frozen=True)
class AuditedEvent:
    """One event of an account, and what it left: `cash`, and units `held` of its security.

    `held` is None for events that concern no security.
    """

    record: EventRecord
    cash: int
    held: int | None


class IncompleteTrail(ValueError):
    """The events are not all of an account's, from the first one on and in their order."""


@dataclass
class Dealings:
    """The trades in one security: quantities, and amounts in cents without fees.

    `profit`: the proceeds of sales above the average cost of the units sold.
    """

    bought: int = 0
    spent: int = 0
    sold: int = 0
    proceeds: int = 0
    profit: int = 0


@dataclass
class Report:
    """The sums of an account's events, in cents. `account`: the state after all events."""

    account: Portfolio = field(default_factory=Portfolio)
    cash_in: int = 0
    cash_out: int = 0
    fees: int = 0
    dealings: dict[str, Dealings] = field(default_factory=dict)

    @property
    def profit(self) -> int:
        """The realised profit, after all fees."""
        return sum(each.profit for each in self.dealings.values()) - self.fees

    @property
    def value(self) -> int:
        """The value of cash and positions, at their latest prices."""
        positions = self.account.positions.values()
        return self.account.cash + sum(each.quantity * each.price for each in positions)

    def differences(self, account: Portfolio | None = None) -> list[str]:
        """Compare a state, such as the one that the fleet keeps, with the sums; one line each."""
        account = self.account if account is None else account
        traded = sum(each.proceeds - each.spent for each in self.dealings.values())
        lines = [("cash", self.cash_in - self.cash_out - self.fees + traded, account.cash)]
        for symbol in sorted({*self.dealings, *account.positions}):
            each, held = self.dealings.get(symbol, Dealings()), account.held(symbol)
            cost = each.spent - each.proceeds + each.profit
            lines.append((f"{symbol} held", each.bought - each.sold, held.quantity))
            lines.append((f"cost of {symbol}", cost, held.cost))
        return [f"{what}: {has}, by the events {due}" for what, due, has in lines if due != has]


def audit_trail(records: Iterable[EventRecord]) -> Iterator[AuditedEvent]:
    """List all events of an account, in their order. IncompleteTrail: a version is missing."""
    account = Portfolio()
    for version, record in enumerate(records, 1):
        if record.version != version:
            raise IncompleteTrail(f"version {version} is missing: {record.version} is in its place")
        account = trading.fold(account, record)
        symbol = record.data.get("symbol")
        yield AuditedEvent(record, account.cash, account.held(symbol).quantity if symbol else None)


def effective_events(records: Iterable[EventRecord]) -> list[Event]:
    """Return the events of which an account's state is made: all but discarded ones."""
    payloads = [trading.payload(record) for record in records if not record.discarded]
    return [each for each in payloads if isinstance(each, Event)]


def report(events: Iterable[Event]) -> Report:
    """Sum up all events of an account, in their order."""
    made = Report()
    for event in events:
        _count(made, event)
        made.account = evolve(made.account, event)
    return made


def _count(made: Report, event: Event) -> None:
    match event:
        case CashDeposited(amount=amount):
            made.cash_in += amount
        case CashWithdrawn(amount=amount):
            made.cash_out += amount
        case Bought(symbol=symbol, quantity=quantity, price=price, fee=fee):
            each = made.dealings.setdefault(symbol, Dealings())
            each.bought += quantity
            each.spent += quantity * price
            made.fees += fee
        case Sold(symbol=symbol, quantity=quantity, price=price, fee=fee):
            each = made.dealings.setdefault(symbol, Dealings())
            each.sold += quantity
            each.proceeds += quantity * price
            each.profit += quantity * price - cost_of(made.account.held(symbol), quantity)
            made.fees += fee
