"""A synchronous domain whose state tells its events, and whose rule looks at their sum."""

from msgspec.structs import replace

from eventfleet.model.command_rules import Decision, Rejection
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Event, State
from eventfleet.snapshot_rules import every

FEE = 1


class Paid(Event):
    n: str
    amount: int
    loud: bool = False


class Account(State):
    balance: int = 0
    trail: tuple[str, ...] = ()


def evolve(account: Account, paid: Paid) -> Account:
    balance = account.balance + paid.amount
    return replace(account, balance=balance, trail=(*account.trail, paid.n))


class Deposit(Command):
    n: str
    amount: int


class Withdraw(Command):
    n: str
    amount: int


def decide(account: Account, command: Command) -> Decision:
    match command:
        case Deposit(n=n, amount=amount):
            return Paid(n=n, amount=amount)
        case Withdraw(n=n, amount=amount):
            if account.balance < amount + FEE:
                return Rejection(f"there are {account.balance}")
            return [Paid(n=n, amount=-amount), Paid(n=f"{n}-fee", amount=-FEE)]
    raise TypeError(type(command).__name__)


EVERY = 2

accounts = Domain(
    "accounts",
    state=Account,
    evolve=evolve,
    events=[Paid],
    snapshot=every(EVERY),
    commands=[Deposit, Withdraw],
    decide=decide,
)
