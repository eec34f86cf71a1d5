"""A trading account: cash, and a position in each security; trading_report sums up its events.

A synchronous domain: its commands are decided on the latest state.
"""

from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from eventfleet.model.command_rules import CommandRule, Emits, Rejection
from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Event, State
from eventfleet.model.views import ProjectedEvent, Row, Totals, View
from eventfleet.snapshot_rules import after, every

MAX_INT64 = 2**63 - 1

Cents = Annotated[int, Meta(ge=0, le=MAX_INT64)]
PositiveCents = Annotated[int, Meta(ge=1, le=MAX_INT64)]
Quantity = Annotated[int, Meta(ge=1, le=MAX_INT64)]
Symbol = Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9.]{0,11}\Z")]


# Events (and upcasters)


class CashDeposited(Event):
    amount: PositiveCents


class CashWithdrawn(Event):
    amount: PositiveCents


class Trade(Event):
    """`price` is for one unit; `fee` comes on top."""

    symbol: Symbol
    quantity: Quantity
    price: PositiveCents
    fee: Cents = 0


class Bought(Trade):
    pass


class Sold(Trade):
    pass


class PriceMarked(Event):
    """The price of one unit, such as at the close of a day."""

    symbol: Symbol
    price: PositiveCents


# State and evolve


class OpenPosition(State):
    """A position in one security.

    `cost`: the price paid for the units held, without fees, at their average. `price`: the last one
    marked or traded.
    """

    quantity: int = 0
    cost: int = 0
    price: int = 0


class Portfolio(State):
    cash: int = 0
    positions: dict[str, OpenPosition] = {}  # noqa: RUF012 (msgspec copies it)

    def held(self, symbol: str) -> OpenPosition:
        return self.positions.get(symbol, OpenPosition())

    def holding(self, symbol: str, position: OpenPosition) -> "Portfolio":
        """Return the portfolio with this position, or without it where no unit is left."""
        positions = {**self.positions, symbol: position}
        if position.quantity <= 0:
            del positions[symbol]
        return replace(self, positions=positions)


def evolve(account: Portfolio, event: Event) -> Portfolio:
    match event:
        case CashDeposited(amount=amount):
            return replace(account, cash=account.cash + amount)
        case CashWithdrawn(amount=amount):
            return replace(account, cash=account.cash - amount)
        case Bought(symbol=symbol):
            account = replace(account, cash=account.cash - paid(event))
            return account.holding(symbol, with_bought(account.held(symbol), event))
        case Sold(symbol=symbol):
            account = replace(account, cash=account.cash + received(event))
            return account.holding(symbol, without_sold(account.held(symbol), event))
        case PriceMarked(symbol=symbol, price=price):
            return account.holding(symbol, replace(account.held(symbol), price=price))
    raise TypeError(f"no rule for {type(event).__name__}")


def paid(bought: Bought) -> int:
    return bought.quantity * bought.price + bought.fee


def received(sold: Sold) -> int:
    """Return the proceeds after the fee; below zero where the fee is higher."""
    return sold.quantity * sold.price - sold.fee


def with_bought(held: OpenPosition, bought: Bought) -> OpenPosition:
    cost = held.cost + bought.quantity * bought.price
    return OpenPosition(quantity=held.quantity + bought.quantity, cost=cost, price=bought.price)


def without_sold(held: OpenPosition, sold: Sold) -> OpenPosition:
    left = held.quantity - sold.quantity
    cost = held.cost - cost_of(held, sold.quantity)
    return OpenPosition(quantity=left, cost=cost, price=sold.price)


def cost_of(held: OpenPosition, quantity: int) -> int:
    """Return the cost of so many of the units held: their share, or all of it for all units."""
    return held.cost * quantity // held.quantity if quantity < held.quantity else held.cost


# Commands


class DepositCash(Command):
    amount: PositiveCents


class WithdrawCash(Command):
    amount: PositiveCents


class TradeOrder(Command):
    symbol: Symbol
    quantity: Quantity
    price: PositiveCents
    fee: Cents = 0


class Buy(TradeOrder):
    pass


class Sell(TradeOrder):
    pass


class MarkPrice(Command):
    symbol: Symbol
    price: PositiveCents


def decide(account: Portfolio, command: Command) -> Event | Rejection:
    match command:
        case DepositCash(amount=amount):
            return too_much(account.cash + amount) or CashDeposited(amount=amount)
        case WithdrawCash(amount=amount):
            return short_of_cash(account, amount) or CashWithdrawn(amount=amount)
        case Buy(symbol=symbol, quantity=quantity, price=price, fee=fee):
            bought = Bought(symbol=symbol, quantity=quantity, price=price, fee=fee)
            return unaffordable(account, bought) or bought
        case Sell(symbol=symbol, quantity=quantity, price=price, fee=fee):
            sold = Sold(symbol=symbol, quantity=quantity, price=price, fee=fee)
            return unsaleable(account, sold) or sold
    raise TypeError(f"no rule for {type(command).__name__}")


def unaffordable(account: Portfolio, bought: Bought) -> Rejection | None:
    then = with_bought(account.held(bought.symbol), bought)
    return short_of_cash(account, paid(bought)) or too_much(max(then.quantity, then.cost))


def unsaleable(account: Portfolio, sold: Sold) -> Rejection | None:
    held = account.held(sold.symbol).quantity
    if sold.quantity > held:
        return Rejection(f"{sold.quantity} {sold.symbol} can't be sold, {held} are held")
    return short_of_cash(account, -received(sold)) or too_much(account.cash + received(sold))


def short_of_cash(account: Portfolio, amount: int) -> Rejection | None:
    if amount > account.cash:
        return Rejection(f"{amount} is more than the cash of {account.cash}")
    return None


def too_much(number: int) -> Rejection | None:
    """Reject a number beyond 64 bits."""
    return Rejection(f"{number} is more than an account can hold") if number > MAX_INT64 else None


# The market makes the price, whatever the account holds: there is nothing to decide.
commands: list[CommandRule] = [DepositCash, WithdrawCash, Buy, Sell, Emits(MarkPrice, PriceMarked)]

# Snapshot rule

snapshot = every(50) | after(hours=1)

# Routes

routes = [Route("trading.trades", types=[Bought, Sold])]

# Views


class PositionRow(Row):
    """A position that an account holds."""

    symbol: str
    quantity: int
    cost: int
    price: int


def symbol_of(event: ProjectedEvent) -> str | None:
    """Return the key of the row, within the account, that an event is for; None for cash."""
    return getattr(event.data, "symbol", None)


def project_position(row: PositionRow | None, event: ProjectedEvent) -> PositionRow | None:
    held = (
        OpenPosition(quantity=row.quantity, cost=row.cost, price=row.price)
        if row
        else OpenPosition()
    )
    match event.data:
        case Bought():
            held = with_bought(held, event.data)
        case Sold():
            held = without_sold(held, event.data)
        case PriceMarked(price=price):
            held = replace(held, price=price)
    if held.quantity <= 0:
        return None
    symbol, quantity = event.data.symbol, held.quantity
    return PositionRow(symbol=symbol, quantity=quantity, cost=held.cost, price=held.price)


class Holding(Row):
    """The units of a security that all accounts hold."""

    symbol: str
    accounts: int = 0
    quantity: int = 0


def plus(holding: Holding, accounts: int, quantity: int) -> Holding:
    quantity += holding.quantity
    return replace(holding, accounts=holding.accounts + accounts, quantity=quantity)


holdings: Totals[PositionRow, Holding] = Totals(
    "holdings",
    row=Holding,
    by=["symbol"],
    group=lambda position: Holding(symbol=position.symbol),
    add=lambda holding, position: plus(holding, 1, position.quantity),
    remove=lambda holding, position: plus(holding, -1, -position.quantity),
    merge=lambda one, other: plus(one, other.accounts, other.quantity),
)

positions = View(
    "positions",
    row=PositionRow,
    project=project_position,
    key=symbol_of,
    indexes=[["symbol", "quantity"]],
    totals=[holdings],
)

# The Domain

trading = Domain(
    "trading",
    state=Portfolio,
    evolve=evolve,
    events=[CashDeposited, CashWithdrawn, Bought, Sold, PriceMarked],
    commands=commands,
    decide=decide,
    snapshot=snapshot,
    routes=routes,
    views=[positions],
)
