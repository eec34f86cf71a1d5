"""A trading account: what each command becomes, what can never be, and what an auditor is told."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from msgspec import to_builtins
from msgspec.structs import replace

from eventfleet import Command, Event, EventRecord, SchemalessPayload, replay
from eventfleet.domains.trading import (
    MAX_INT64,
    Bought,
    Buy,
    CashDeposited,
    CashWithdrawn,
    DepositCash,
    MarkPrice,
    OpenPosition,
    Portfolio,
    PriceMarked,
    Sell,
    Sold,
    WithdrawCash,
    evolve,
    trading,
)
from eventfleet.domains.trading_report import (
    Dealings,
    IncompleteTrail,
    audit_trail,
    effective_events,
    report,
)
from eventfleet.testing import given
from tests.unit.event_records import record

CASH = CashDeposited(amount=1000)
TEN = Bought(symbol="ACME", quantity=10, price=30, fee=5)
HOLDING = [CASH, TEN]


@pytest.mark.parametrize(
    ("events", "command", "then"),
    [
        ([], DepositCash(amount=5), CashDeposited(amount=5)),
        ([CASH], WithdrawCash(amount=1000), CashWithdrawn(amount=1000)),
        ([CASH], Buy(symbol="ACME", quantity=10, price=30, fee=5), TEN),
        (
            [CASH],
            Buy(symbol="ACME", quantity=9, price=111, fee=1),
            Bought(symbol="ACME", quantity=9, price=111, fee=1),
        ),
        (
            HOLDING,
            Sell(symbol="ACME", quantity=10, price=40, fee=3),
            Sold(symbol="ACME", quantity=10, price=40, fee=3),
        ),
        (
            HOLDING,
            Sell(symbol="ACME", quantity=1, price=1, fee=696),
            Sold(symbol="ACME", quantity=1, price=1, fee=696),
        ),
        ([], MarkPrice(symbol="ACME", price=7), PriceMarked(symbol="ACME", price=7)),
    ],
)
def test_what_an_account_allows_becomes_an_event(
    events: list[Event], command: Command, then: Event
) -> None:
    given(trading, *events).when(command).then(then)


@pytest.mark.parametrize(
    ("events", "command", "reason"),
    [
        ([CASH], WithdrawCash(amount=1001), "1001 is more than the cash of 1000"),
        (HOLDING, WithdrawCash(amount=696), "696 is more than the cash of 695"),
        (
            [CASH],
            Buy(symbol="ACME", quantity=10, price=100, fee=1),
            "1001 is more than the cash of 1000",
        ),
        (HOLDING, Sell(symbol="ACME", quantity=11, price=1), "11 ACME can't be sold, 10 are held"),
        (HOLDING, Sell(symbol="OTHER", quantity=1, price=1), "1 OTHER can't be sold, 0 are held"),
        (
            HOLDING,
            Sell(symbol="ACME", quantity=1, price=1, fee=697),
            "696 is more than the cash of 695",
        ),
        (HOLDING, DepositCash(amount=MAX_INT64 - 694), "is more than an account can hold"),
        (
            HOLDING,
            Sell(symbol="ACME", quantity=1, price=MAX_INT64 - 694),
            "is more than an account can hold",
        ),
        (
            [
                CashDeposited(amount=MAX_INT64),
                Bought(symbol="ACME", quantity=MAX_INT64, price=1),
                CASH,
            ],
            Buy(symbol="ACME", quantity=1, price=1),
            f"{MAX_INT64 + 1} is more than an account can hold",
        ),
    ],
)
def test_what_is_not_there_is_rejected_with_what_is(
    events: list[Event], command: Command, reason: str
) -> None:
    given(trading, *events).when(command).rejected(reason)


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (DepositCash(amount=0), "data.amount"),
        (Buy(symbol="acme", quantity=1, price=1), "data.symbol"),
        (Buy(symbol="ACME", quantity=0, price=1), "data.quantity"),
        (Sell(symbol="ACME", quantity=1, price=1, fee=-1), "data.fee"),
        (MarkPrice(symbol="ACME", price=0), "data.price"),
    ],
)
def test_a_command_out_of_its_bounds_is_no_command(command: Command, field: str) -> None:
    given(trading, CASH).when(command).invalid(field)


# The state


def test_purchases_add_up_and_sales_take_their_share_of_the_cost() -> None:
    more = Bought(symbol="ACME", quantity=5, price=60)
    held = given(trading, *HOLDING, more)
    held.state(cash=395, positions={"ACME": OpenPosition(quantity=15, cost=600, price=60)})
    some = held.when(Sell(symbol="ACME", quantity=4, price=50, fee=1))
    some.state(cash=594, positions={"ACME": OpenPosition(quantity=11, cost=440, price=50)})
    some.when(Sell(symbol="ACME", quantity=11, price=50)).state(cash=1144, positions={})


def test_a_mark_changes_the_price_of_what_is_held_and_nothing_else() -> None:
    marked = given(trading, *HOLDING, PriceMarked(symbol="ACME", price=33))
    marked.state(cash=695, positions={"ACME": OpenPosition(quantity=10, cost=300, price=33)})
    given(trading, CASH, PriceMarked(symbol="ACME", price=33)).state(cash=1000, positions={})


# What can never be

symbols = st.sampled_from(["ACME", "B.1", "C"])
quantities = st.integers(1, 20) | st.integers(1, MAX_INT64)
prices = st.integers(1, 100) | st.integers(1, MAX_INT64)
fees = st.integers(0, 5) | st.integers(0, MAX_INT64)
TRADE: dict[str, Any] = {"symbol": symbols, "quantity": quantities, "price": prices, "fee": fees}
COMMANDS = st.one_of(
    st.builds(DepositCash, amount=prices),
    st.builds(WithdrawCash, amount=prices),
    st.builds(Buy, **TRADE),
    st.builds(Sell, **TRADE),
    st.builds(MarkPrice, symbol=symbols, price=prices),
)
EVENTS = st.one_of(
    st.builds(CashDeposited, amount=prices),
    st.builds(CashWithdrawn, amount=prices),
    st.builds(Bought, **TRADE),
    st.builds(Sold, **TRADE),
    st.builds(PriceMarked, symbol=symbols, price=prices),
)


def became(commands: Sequence[Command]) -> tuple[list[Event], Portfolio]:
    """What follows from a deposit and these; nothing is ever below zero or beyond 64 bits."""
    story: Any = given(trading, CASH)
    events: list[Event | SchemalessPayload] = [CASH]
    for command in commands:
        story = story.when(command)
        events += story.outcome if isinstance(story.outcome, list) else []
        account = story.state()
        assert 0 <= account.cash <= MAX_INT64
        for position in account.positions.values():
            assert 1 <= position.quantity <= MAX_INT64
            assert 0 <= position.cost <= MAX_INT64
    return [event for event in events if isinstance(event, Event)], story.state()


@drawn(st.lists(COMMANDS, max_size=30))
def test_no_commands_sell_what_is_not_held_or_spend_what_is_not_there(
    commands: list[Command],
) -> None:
    events, account = became(commands)
    reported = report(events)
    assert reported.account == account
    assert reported.differences() == reported.differences(account) == []


@drawn(st.lists(EVENTS, max_size=20))
def test_every_event_has_its_place_in_every_state(events: list[Event]) -> None:
    account = replay(evolve, Portfolio(), events)
    assert trading.load_state(trading.dump_state(account)) == account


def test_an_event_without_a_rule_is_a_fault() -> None:
    class Lost(Event):
        pass

    with pytest.raises(TypeError, match="no rule for Lost"):
        evolve(Portfolio(), Lost())


# The report

LIFE = [
    CASH,
    TEN,
    Bought(symbol="ACME", quantity=5, price=60),
    Sold(symbol="ACME", quantity=12, price=50, fee=2),
    PriceMarked(symbol="ACME", price=45),
    CashWithdrawn(amount=200),
]


def test_a_report_says_what_was_traded_gained_and_paid() -> None:
    told = report(LIFE)
    assert (told.cash_in, told.cash_out, told.fees) == (1000, 200, 7)
    assert told.dealings == {
        "ACME": Dealings(bought=15, spent=600, sold=12, proceeds=600, profit=120)
    }
    assert told.profit == 113
    assert told.account == replay(evolve, Portfolio(), LIFE)
    assert told.account.cash == 793
    assert told.value == 793 + 3 * 45
    assert told.differences() == []


def test_a_balance_does_not_say_what_was_traded() -> None:
    """Where only the account is kept, these two are one; their events tell them apart."""
    bought = Bought(symbol="ACME", quantity=10, price=30)
    traded = report([CASH, bought, Sold(symbol="ACME", quantity=10, price=40)])
    paid_in = report([CASH, CashDeposited(amount=100)])
    assert traded.account == paid_in.account == Portfolio(cash=1100)
    assert (traded.profit, paid_in.profit) == (100, 0)
    assert (traded.cash_in, paid_in.cash_in) == (1000, 1100)


def test_a_report_of_nothing_is_empty() -> None:
    told = report([])
    assert (told.account, told.profit, told.value, told.differences()) == (Portfolio(), 0, 0, [])


def test_a_state_that_does_not_follow_from_the_events_is_told_apart() -> None:
    wrong = Portfolio(cash=794, positions={"X": OpenPosition(quantity=1, cost=9, price=9)})
    assert report(LIFE).differences(wrong) == [
        "cash: 794, by the events 793",
        "ACME held: 0, by the events 3",
        "cost of ACME: 0, by the events 120",
        "X held: 1, by the events 0",
        "cost of X: 9, by the events 0",
    ]


# The trail


def stored(events: Sequence[Event]) -> list[EventRecord]:
    return [
        replace(record(type(event).__name__, to_builtins(event)), domain="trading", version=version)
        for version, event in enumerate(events, 1)
    ]


def test_the_trail_has_every_event_and_what_it_left() -> None:
    trail = [*audit_trail(stored(LIFE))]
    assert [each.record for each in trail] == stored(LIFE)
    assert [(each.cash, each.held) for each in trail] == [
        *((1000, None), (695, 10), (395, 15)),
        *((993, 3), (993, 3), (793, None)),
    ]


def test_a_discarded_event_is_in_the_trail_and_in_no_sum() -> None:
    records = stored([*LIFE, CashDeposited(amount=5)])
    records[-1] = replace(records[-1], discarded=True, data={"unreadable": True})
    trail = [*audit_trail(records)]
    assert [each.record for each in trail] == records
    assert trail[-1].cash == trail[-2].cash
    sums = report(effective_events(records))
    assert sums == report(LIFE)
    assert sums.differences(report(LIFE).account) == []


@pytest.mark.parametrize("missing", [0, 3])
def test_a_trail_with_a_gap_is_no_trail(missing: int) -> None:
    records = stored(LIFE)
    del records[missing]
    with pytest.raises(IncompleteTrail, match=f"version {missing + 1} is missing"):
        [*audit_trail(records)]


def test_events_in_another_order_are_no_trail() -> None:
    with pytest.raises(IncompleteTrail, match="version 1 is missing: 6 is in its place"):
        [*audit_trail(reversed(stored(LIFE)))]
