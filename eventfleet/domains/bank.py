"""Bank accounts: money in and out within an overdraft limit, from opening to closing.

A synchronous domain: its commands are decided on the latest state.
"""

from datetime import datetime
from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from eventfleet.model.command_rules import Rejection
from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Event, State
from eventfleet.model.views import ProjectedEvent, Row, Totals, View
from eventfleet.snapshot_rules import every, on

MAX_CENTS = 2**63 - 1
LARGE_CENTS = 10_000_00

Cents = Annotated[int, Meta(ge=0, le=MAX_CENTS)]
PositiveCents = Annotated[int, Meta(ge=1, le=MAX_CENTS)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
Reason = Annotated[str, Meta(max_length=500)]


# Events (and upcasters)


class Opened(Event):
    owner: Name
    currency: Currency
    overdraft_limit: Cents = 0


class Deposited(Event):
    amount: PositiveCents


class Withdrawn(Event):
    amount: PositiveCents


class FeeCharged(Event):
    amount: PositiveCents


class OverdraftLimitChanged(Event):
    limit: Cents


class Frozen(Event):
    reason: Reason = ""


class Unfrozen(Event):
    pass


class PaidOut(Event):
    amount: PositiveCents


class Closed(Event):
    pass


# State and evolve


class Account(State):
    """`balance` is below zero, by `overdraft_limit` at most, while the account is overdrawn."""

    status: str = "unopened"
    owner: str = ""
    currency: str = ""
    balance: int = 0
    overdraft_limit: int = 0


def evolve(account: Account, event: Event) -> Account:
    match event:
        case Opened(owner=owner, currency=currency, overdraft_limit=limit):
            return replace(
                account, status="open", owner=owner, currency=currency, overdraft_limit=limit
            )
        case Deposited(amount=amount):
            return replace(account, balance=account.balance + amount)
        case Withdrawn(amount=amount) | FeeCharged(amount=amount) | PaidOut(amount=amount):
            return replace(account, balance=account.balance - amount)
        case OverdraftLimitChanged(limit=limit):
            return replace(account, overdraft_limit=limit)
        case Frozen():
            return replace(account, status="frozen")
        case Unfrozen():
            return replace(account, status="open")
        case Closed():
            return replace(account, status="closed")
    raise TypeError(f"no rule for {type(event).__name__}")


# Commands


class Open(Command):
    owner: Name
    currency: Currency
    overdraft_limit: Cents = 0


class Deposit(Command):
    amount: PositiveCents


class Withdraw(Command):
    """`fee`: the price of the withdrawal, such as at another bank's machine."""

    amount: PositiveCents
    fee: Cents = 0


class ChangeOverdraftLimit(Command):
    limit: Cents


class Freeze(Command):
    reason: Reason = ""


class Unfreeze(Command):
    pass


class Close(Command):
    """Pays out the balance that is left."""


# The statuses in which an account accepts each command; a frozen account still accepts deposits.
STATUSES: dict[type[Command], tuple[str, ...]] = {
    Open: ("unopened",),
    Deposit: ("open", "frozen"),
    Withdraw: ("open",),
    ChangeOverdraftLimit: ("open",),
    Freeze: ("open",),
    Unfreeze: ("frozen",),
    Close: ("open",),
}


def decide(account: Account, command: Command) -> Event | list[Event] | Rejection:
    if account.status not in STATUSES[type(command)]:
        return Rejection(f"the account is {account.status}")
    match command:
        case Open(owner=owner, currency=currency, overdraft_limit=limit):
            return Opened(owner=owner, currency=currency, overdraft_limit=limit)
        case Deposit(amount=amount):
            if account.balance + amount > MAX_CENTS:
                return Rejection(f"the balance of {account.balance} has no room for {amount}")
            return Deposited(amount=amount)
        case Withdraw(amount=amount, fee=fee):
            return withdraw(account, amount, fee)
        case ChangeOverdraftLimit(limit=limit):
            if account.balance < -limit:
                return Rejection(f"the account is overdrawn by {-account.balance}")
            return OverdraftLimitChanged(limit=limit)
        case Freeze(reason=reason):
            return Frozen(reason=reason)
        case Unfreeze():
            return Unfrozen()
        case Close():
            return close(account)
    raise TypeError(f"no rule for {type(command).__name__}")


def withdraw(account: Account, amount: int, fee: int) -> list[Event] | Rejection:
    balance, limit = account.balance, account.overdraft_limit
    if amount + fee > balance + limit:
        available = f"the balance of {balance} and the overdraft limit of {limit}"
        return Rejection(f"{amount + fee} is more than {available}")
    withdrawn = Withdrawn(amount=amount)
    return [withdrawn, FeeCharged(amount=fee)] if fee else [withdrawn]


def close(account: Account) -> list[Event] | Rejection:
    if account.balance < 0:
        return Rejection(f"the account is overdrawn by {-account.balance}")
    return [PaidOut(amount=account.balance), Closed()] if account.balance else [Closed()]


# Snapshot rule

snapshot = every(50) | on(Closed)

# Routes


def large(event: ProjectedEvent) -> bool:
    return bool(event.data.amount >= LARGE_CENTS)


routes = [
    Route("fraud.withdrawals", types=[Withdrawn], when=large),
    Route("bank.bookings", types=[Deposited, Withdrawn, FeeCharged, PaidOut]),
]

# Views


class AccountRow(Row):
    """`balance` in cents."""

    owner: str
    currency: str
    changed_at: datetime
    status: str = "open"
    balance: int = 0


def project_account(row: AccountRow | None, event: ProjectedEvent) -> AccountRow | None:
    if isinstance(event.data, Opened):
        opened = event.data
        return AccountRow(owner=opened.owner, currency=opened.currency, changed_at=event.time)
    if row is None:
        return None
    match event.data:
        case Deposited(amount=amount):
            row = replace(row, balance=row.balance + amount)
        case Withdrawn(amount=amount) | FeeCharged(amount=amount) | PaidOut(amount=amount):
            row = replace(row, balance=row.balance - amount)
        case Frozen():
            row = replace(row, status="frozen")
        case Unfrozen():
            row = replace(row, status="open")
        case Closed():
            row = replace(row, status="closed")
    return replace(row, changed_at=event.time)


class Deposits(Row):
    """The accounts of one currency and status, and the sum of their balances in cents."""

    currency: str
    status: str
    accounts: int = 0
    balance: int = 0


def plus(total: Deposits, accounts: int, balance: int) -> Deposits:
    return replace(total, accounts=total.accounts + accounts, balance=total.balance + balance)


deposits: Totals[AccountRow, Deposits] = Totals(
    "deposits",
    row=Deposits,
    by=["currency", "status"],
    group=lambda account: Deposits(currency=account.currency, status=account.status),
    add=lambda total, account: plus(total, 1, account.balance),
    remove=lambda total, account: plus(total, -1, -account.balance),
    merge=lambda one, other: plus(one, other.accounts, other.balance),
)

accounts = View(
    "accounts",
    row=AccountRow,
    project=project_account,
    indexes=[["owner"], ["status", "balance"]],
    totals=[deposits],
)

# The Domain

bank = Domain(
    "bank",
    state=Account,
    evolve=evolve,
    events=[
        *(Opened, Deposited, Withdrawn, FeeCharged),
        *(OverdraftLimitChanged, Frozen, Unfrozen, PaidOut, Closed),
    ],
    commands=[*STATUSES],
    decide=decide,
    snapshot=snapshot,
    routes=routes,
    views=[accounts],
)
