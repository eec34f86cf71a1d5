"""Queries while builds change under them."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventfleet.states.view_reader import ViewReader
from eventfleet.stores.contracts.views import AggregateSelection
from eventfleet.topics.errors import InvalidRecord
from tests.unit.view_fixture import (
    ACCOUNTS,
    TICK,
    Account,
    Deposited,
    Opened,
    OwnerTotal,
    Servers,
    made_live,
    till,
)

Read = Callable[[ViewReader], Awaitable[Any]]


class Changes:
    """A yield point that has a reader meet two changes of builds after so many steps."""

    def __init__(self) -> None:
        self.steps = 0
        self.change: Callable[[], Awaitable[None]] | None = None

    async def __call__(self) -> None:
        self.steps -= 1
        change = self.change
        if change and not self.steps:
            self.change = None
            await change()


async def the_row(views: ViewReader) -> Any:
    return await views.get("accounts", "a")


async def all_rows(views: ViewReader) -> Any:
    return [each.row for each in (await views.find("accounts")).rows]


async def all_totals(views: ViewReader) -> Any:
    return [each.row for each in (await views.find("owners")).rows]


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize(
    ("read", "answer"),
    [
        (the_row, Account(owner="ann", cents=5)),
        (all_rows, [Account(owner="ann", cents=5)]),
        (all_totals, [OwnerTotal(owner="ann", accounts=1, cents=5)]),
    ],
)
async def test_a_build_that_is_removed_before_it_answers_is_followed_by_the_live_one(
    read: Read, answer: Any, steps: int
) -> None:
    changes = Changes()
    servers = Servers(till(ACCOUNTS), yield_point=changes)
    role = servers.role()
    await role.open()
    await servers.append("a", Opened(owner="ann"), Deposited(cents=5))
    await servers.take(role)
    await made_live(servers, role)

    async def begin(last: int) -> None:
        assert await servers.views.begin("accounts", ["accounts", "owners"], ACCOUNTS.shape, last)

    async def change() -> None:
        servers.clock.time += TICK
        await begin(1)
        await made_live(servers, role)
        await begin(2)

    changes.steps, changes.change = steps, change
    assert await read(ViewReader(servers.domain, servers.views)) == answer


async def test_a_row_that_is_not_there_is_not_looked_for_without_end() -> None:
    servers = Servers(till(ACCOUNTS))
    role = servers.role()
    await role.open()
    await made_live(servers, role)
    views = ViewReader(servers.domain, servers.views)
    assert await the_row(views) is None
    assert await all_rows(views) == await all_totals(views) == []


async def test_rows_of_some_aggregates_alone_are_found_and_no_totals() -> None:
    servers = Servers(till(ACCOUNTS))
    role = servers.role()
    await role.open()
    for id in ("a", "b-1", "b-2", "c"):
        await servers.append(id, Opened(owner="ann"))
    await servers.take(role)
    await made_live(servers, role)
    views = ViewReader(servers.domain, servers.views)
    own = AggregateSelection(frozenset({"c"}), ("b-",))
    page = await views.find("accounts", aggregates=own)
    assert [each.aggregate_id for each in page.rows] == ["b-1", "b-2", "c"]
    assert (await views.find("accounts", aggregates=AggregateSelection())).rows == []
    with pytest.raises(InvalidRecord, match="totals of many aggregates"):
        await views.find("owners", aggregates=own)
