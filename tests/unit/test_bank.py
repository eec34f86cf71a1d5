"""Bank accounts: what each command becomes in each situation, and what can never be."""

from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from msgspec import to_builtins

from eventfleet import Command, Event, Rejection, replay
from eventfleet.deciders.outcomes import Rejected
from eventfleet.domains.bank import (
    LARGE_CENTS,
    MAX_CENTS,
    Account,
    ChangeOverdraftLimit,
    Close,
    Closed,
    Deposit,
    Deposited,
    FeeCharged,
    Freeze,
    Frozen,
    Open,
    Opened,
    OverdraftLimitChanged,
    PaidOut,
    Unfreeze,
    Unfrozen,
    Withdraw,
    Withdrawn,
    bank,
    evolve,
)
from eventfleet.roles.relay import downstream
from eventfleet.testing import given
from tests.unit.event_records import record

OPENED = Opened(owner="ann", currency="EUR", overdraft_limit=50)
OPEN = Open(owner="ann", currency="EUR", overdraft_limit=50)
WITH_200 = [OPENED, Deposited(amount=200)]
OVERDRAWN = [OPENED, Withdrawn(amount=30)]
FROZEN = [*WITH_200, Frozen(reason="lost card")]
CLOSED = [OPENED, Closed()]


@pytest.mark.parametrize(
    ("events", "command", "then"),
    [
        ([], OPEN, [OPENED]),
        (WITH_200, Deposit(amount=1), [Deposited(amount=1)]),
        (FROZEN, Deposit(amount=1), [Deposited(amount=1)]),
        (WITH_200, Withdraw(amount=250), [Withdrawn(amount=250)]),
        (WITH_200, Withdraw(amount=248, fee=2), [Withdrawn(amount=248), FeeCharged(amount=2)]),
        (OVERDRAWN, Withdraw(amount=20), [Withdrawn(amount=20)]),
        (OVERDRAWN, ChangeOverdraftLimit(limit=30), [OverdraftLimitChanged(limit=30)]),
        (WITH_200, ChangeOverdraftLimit(limit=0), [OverdraftLimitChanged(limit=0)]),
        (WITH_200, Freeze(reason="lost card"), [Frozen(reason="lost card")]),
        (FROZEN, Unfreeze(), [Unfrozen()]),
        (WITH_200, Close(), [PaidOut(amount=200), Closed()]),
        ([OPENED], Close(), [Closed()]),
        ([OPENED, Deposited(amount=MAX_CENTS - 1)], Deposit(amount=1), [Deposited(amount=1)]),
    ],
)
def test_what_an_account_allows_becomes_events(
    events: list[Event], command: Command, then: list[Event]
) -> None:
    given(bank, *events).when(command).then(*then)


@pytest.mark.parametrize(
    ("events", "command", "reason"),
    [
        (WITH_200, Withdraw(amount=251), "251 is more than the balance of 200 and the overdraft"),
        (WITH_200, Withdraw(amount=250, fee=1), "251 is more than the balance of 200"),
        (OVERDRAWN, Withdraw(amount=21), "the balance of -30 and the overdraft limit of 50"),
        (OVERDRAWN, ChangeOverdraftLimit(limit=29), "the account is overdrawn by 30"),
        (OVERDRAWN, Close(), "the account is overdrawn by 30"),
        (WITH_200, Deposit(amount=MAX_CENTS - 199), "the balance of 200 has no room for"),
        (WITH_200, OPEN, "the account is open"),
        (WITH_200, Unfreeze(), "the account is open"),
        *(
            (events, command, f"the account is {status}")
            for events, status, refused in [
                ([], "unopened", (Deposit(amount=1), Unfreeze(), Close())),
                (FROZEN, "frozen", (OPEN, ChangeOverdraftLimit(limit=1), Freeze(), Close())),
                (CLOSED, "closed", (OPEN, Deposit(amount=1), Unfreeze(), Close())),
            ]
            for command in (Withdraw(amount=1), *refused)
        ),
    ],
)
def test_what_an_account_forbids_is_rejected_with_what_is_there(
    events: list[Event], command: Command, reason: str
) -> None:
    given(bank, *events).when(command).rejected(reason)


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (Open(owner="", currency="EUR"), "data.owner"),
        (Open(owner="ann", currency="euro"), "data.currency"),
        (Deposit(amount=0), "data.amount"),
        (Deposit(amount=MAX_CENTS + 1), "data.amount"),
        (Withdraw(amount=1, fee=-1), "data.fee"),
        (ChangeOverdraftLimit(limit=-1), "data.limit"),
        (Freeze(reason="x" * 501), "data.reason"),
    ],
)
def test_a_command_out_of_its_bounds_is_no_command(command: Command, field: str) -> None:
    given(bank).when(command).invalid(field)


# What can never be

cents = st.integers(1, 500) | st.integers(1, MAX_CENTS)
reasons = st.text(max_size=20)
COMMANDS = st.one_of(
    st.builds(Open, owner=st.just("ann"), currency=st.just("EUR"), overdraft_limit=cents),
    st.builds(Deposit, amount=cents),
    st.builds(Withdraw, amount=cents, fee=st.integers(0, 5)),
    st.builds(ChangeOverdraftLimit, limit=cents),
    st.builds(Freeze, reason=reasons),
    st.builds(Unfreeze),
    st.builds(Close),
)
EVENTS = st.one_of(
    st.builds(Opened, owner=st.just("ann"), currency=st.just("EUR"), overdraft_limit=cents),
    st.builds(OverdraftLimitChanged, limit=cents),
    st.builds(Frozen, reason=reasons),
    *(st.builds(kind, amount=cents) for kind in (Deposited, Withdrawn, FeeCharged, PaidOut)),
    *(st.builds(kind) for kind in (Unfrozen, Closed)),
)


@drawn(st.lists(COMMANDS, max_size=30))
def test_no_commands_bring_a_balance_below_its_limit_or_beyond_64_bits(
    commands: list[Command],
) -> None:
    story: Any = given(bank, OPENED)
    for command in commands:
        story = story.when(command)
        assert isinstance(story.outcome, list | Rejected)
        account = story.state()
        assert -account.overdraft_limit <= account.balance <= MAX_CENTS
        assert account.status != "closed" or account.balance == 0


@drawn(st.lists(COMMANDS, max_size=10), COMMANDS)
def test_an_answer_is_all_of_its_events_or_a_reason(
    commands: list[Command], command: Command
) -> None:
    story: Any = given(bank)
    for each in commands:
        story = story.when(each)
        assert isinstance(story.outcome, list | Rejected)
    outcome = story.when(command).outcome
    assert (isinstance(outcome, Rejected) and outcome.reason) or 1 <= len(outcome) <= 2


@drawn(st.lists(EVENTS, max_size=20))
def test_every_event_has_its_place_in_every_state(events: list[Event]) -> None:
    account = replay(evolve, Account(), events)
    assert bank.load_state(bank.dump_state(account)) == account


def test_events_and_commands_without_a_rule_are_faults() -> None:
    class Lost(Event):
        pass

    with pytest.raises(TypeError, match="no rule for Lost"):
        evolve(Account(), Lost())


def test_every_command_of_the_domain_is_decided() -> None:
    answers = [bank.decide_events(Account(), command) for command in (OPEN, Close())]
    assert answers == [[OPENED], Rejection("the account is unopened")]
    assert bank.synchronous
    assert not bank.uses_marker


# What the events are needed for


def test_a_balance_does_not_say_what_was_paid_in_and_out() -> None:
    """Where only the row is kept, these two accounts are one."""
    quiet = given(bank, *WITH_200)
    busy = given(bank, OPENED, Deposited(amount=250), Withdrawn(amount=50))
    assert quiet.row("accounts", balance=200) == busy.row("accounts")
    assert quiet.state() == busy.state()


@pytest.mark.parametrize("lost", range(5))
def test_an_account_that_lacks_one_event_is_wrong(lost: int) -> None:
    events = [*WITH_200, Withdrawn(amount=20), FeeCharged(amount=2), Frozen()]
    left = [event for number, event in enumerate(events) if number != lost]
    assert given(bank, *left).state() != given(bank, *events).state()


# Where its events go


@pytest.mark.parametrize(
    ("event", "topics"),
    [
        (OPENED, []),
        (Withdrawn(amount=LARGE_CENTS - 1), ["bank.bookings"]),
        (Withdrawn(amount=LARGE_CENTS), ["fraud.withdrawals", "bank.bookings"]),
        (PaidOut(amount=LARGE_CENTS), ["bank.bookings"]),
    ],
)
def test_money_goes_to_the_books_and_large_withdrawals_to_fraud(
    event: Event, topics: list[str]
) -> None:
    stored = record(type(event).__name__, to_builtins(event))
    assert [outgoing.topic for outgoing in downstream(bank, stored)] == topics
