"""The kit for testing domains: the rows and totals of views, and what it refuses in them."""

from collections.abc import Callable
from dataclasses import replace as with_changes
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet import EventRecord, Row, Totals, View
from eventfleet.errors import UnknownView
from eventfleet.testing import StoredEvent, given, totals
from tests.unit.kit_failures import failure
from tests.unit.view_fixture import (
    ACCOUNTS,
    NOTES,
    Account,
    Closed,
    Deposited,
    Moved,
    Note,
    Noted,
    Opened,
    OwnerTotal,
    till,
)

TILL = till()
ANN = Opened(owner="ann")
TEN = Deposited(cents=10)


def changed(**changes: Any) -> Any:
    return till(with_changes(ACCOUNTS, **changes))


def with_totals(**changes: Any) -> Any:
    return changed(totals=[with_changes(ACCOUNTS.totals[0], **changes)])


# What holds


def test_a_row_follows_from_the_events() -> None:
    account = given(TILL, ANN, TEN)
    assert account.row("accounts", cents=10) == Account(owner="ann", cents=10)
    assert given(TILL).row("accounts") is None
    assert given(TILL, ANN, Closed()).row("accounts") is None


def test_a_row_is_found_by_its_key() -> None:
    noted = given(TILL, ANN, *(Noted(label=each, text="b") for each in ("x", "y", "x")))
    noted.row("notes", "x", text="b", changes=2)
    assert noted.row("notes", "y") == Note(text="b", changes=1)
    assert noted.row("notes", "z") is None


def test_a_row_may_have_a_field_of_any_name() -> None:
    class Named(Row):
        view: str
        key: str

    named = View("named", row=Named, project=lambda *_: Named(view="a", key="b"))
    given(till(named), ANN).row("named", view="a", key="b")


def test_events_are_projected_as_queries_read_them() -> None:
    class Seen(Row):
        version: int
        position: str | None
        at: datetime
        who: str | None

    def project(_: Seen | None, event: Any) -> Seen:
        return Seen(version=event.version, position=event.position, at=event.time, who=event.actor)

    moment = datetime(2024, 3, 1, tzinfo=UTC)
    record = EventRecord(
        id="a",
        type="Opened",
        domain="till",
        aggregate_id="a-7",
        time=moment,
        data={"owner": "ann"},
        actor="bob",
    )
    domain = till(View("seen", row=Seen, project=project))
    given(domain, StoredEvent("Opened", {"owner": "ann"}), record).row(
        "seen", version=2, position="0-0-2", at=moment, who="bob"
    )


def test_totals_are_those_of_all_aggregates_merged() -> None:
    bob = given(TILL, Opened(owner="bob"))
    one, other = given(TILL, ANN, TEN), given(TILL, ANN, TEN, TEN)
    assert totals("owners", one, bob, other, one) == [
        OwnerTotal(owner="ann", accounts=3, cents=40),
        OwnerTotal(owner="bob", accounts=1),
    ]
    assert totals("owners", given(TILL, ANN, TEN, Moved(owner="bob")), bob) == [
        OwnerTotal(owner="bob", accounts=2, cents=10)
    ]
    assert totals("owners", given(TILL, ANN, Closed()), given(TILL)) == []
    assert totals("owners") == []


def test_parts_are_merged_by_the_function_that_merges() -> None:
    domain = with_totals(merge=lambda one, _: one)
    aggregates = [given(domain, ANN, TEN)] * 2
    assert totals("owners", *aggregates) == [OwnerTotal(owner="ann", accounts=1, cents=10)]


# What does not


@pytest.mark.parametrize(
    ("check", "lines"),
    [
        (
            lambda: given(TILL, ANN).row("accounts", cents=1),
            ["row of accounts (- expected, + found)", "- cents=1", "+ cents=0"],
        ),
        (
            lambda: given(TILL, ANN, Closed()).row("accounts", cents=0),
            ["row of accounts (- expected, + found)", "- cents=0", "+ no row"],
        ),
    ],
)
def test_another_row_is_shown_with_all_that_led_to_it(
    check: Callable[[], object], lines: list[str]
) -> None:
    found = [line for line in failure(check) if not line.startswith("?")]
    assert found[0] == "given  Opened(owner='ann')"
    assert found[-3:] == lines


def test_views_and_totals_are_asked_for_by_their_own_names() -> None:
    with pytest.raises(UnknownView, match="no view 'nobody'; known: accounts, notes, owners"):
        given(TILL).row("nobody")
    with pytest.raises(UnknownView):
        totals("nobody", given(TILL))
    with pytest.raises(TypeError, match=r"owners has totals of many aggregates: ask totals"):
        given(TILL, ANN).row("owners")
    with pytest.raises(TypeError, match=r"notes is a view: ask for its rows"):
        totals("notes", given(TILL, ANN))


def test_what_a_function_of_a_view_raises_passes_through() -> None:
    with pytest.raises(LookupError, match="is open"):
        given(TILL, ANN, ANN).row("accounts")
    with pytest.raises(TypeError, match="accounts: project returned 5, not a Account or None"):
        given(changed(project=lambda *_: 5), ANN).row("accounts")
    with pytest.raises(TypeError, match="owners: add returned None, not a OwnerTotal"):
        totals("owners", given(with_totals(add=lambda *_: None), ANN))
    with pytest.raises(TypeError, match="view notes: the key is 7, not a str without NUL"):
        given(till(with_changes(NOTES, key=lambda _: 7)), ANN).row("notes")


def test_a_row_that_no_store_keeps_is_refused() -> None:
    most = given(TILL, ANN, Deposited(cents=2**63 - 1))
    most.row("accounts", cents=2**63 - 1)
    text = "+ cents is 9223372036854775808: beyond a 64-bit integer"
    assert failure(lambda: given(TILL, ANN, *[Deposited(cents=2**62)] * 2).row("accounts"))[
        -2:
    ] == ["a view that no role can keep (- expected, + found)", text]
    domain = with_totals(add=lambda total, row: replace(total, cents=2 * row.cents))
    summed = given(domain, ANN, Deposited(cents=2**62))
    assert failure(lambda: totals("owners", summed))[-1] == text


class Tagged(Row):
    tags: list[str]


class TagTotal(Row):
    tags: list[str] = []  # noqa: RUF012 (msgspec copies it)


def tagged(by: str) -> Any:
    """A view whose function of this name changes in place what it is given."""

    def project(row: Tagged | None, event: Any) -> Tagged:
        if row and by == "project":
            row.tags.append("x")
        return Tagged(tags=["a", str(event.version)])

    def add(total: TagTotal, row: Tagged) -> TagTotal:
        (total if by == "add to the total" else row).tags.append("x")
        return total

    summed = Totals(
        "tags",
        row=TagTotal,
        by=["tags"],
        group=lambda _: TagTotal(tags=["a"]),
        add=add if by.startswith("add") else lambda total, _: total,
        remove=lambda total, _: total,
        merge=lambda one, _: one,
    )
    return till(View("tagged", row=Tagged, project=project, totals=[summed]))


@pytest.mark.parametrize("by", ["project", "add to the total", "add"])
def test_a_function_that_changes_a_row_in_place_is_found(by: str) -> None:
    lines = failure(lambda: given(tagged(by), ANN, TEN).row("tagged"))
    assert lines[-1].startswith(f"+ {by.split()[0]} modifies the row that it is given: ")
    given(tagged("none"), ANN, TEN).row("tagged", tags=["a", "2"])


def test_times_are_in_utc_as_they_are_read_again() -> None:
    class At(Row):
        at: datetime

    moment = datetime.fromisoformat("2024-05-01T02:00:00+02:00")
    view = View("at", row=At, project=lambda *_: At(at=moment))
    row: Any = given(till(view), ANN).row("at", at=moment)
    assert row.at.utcoffset() == timedelta(0)
