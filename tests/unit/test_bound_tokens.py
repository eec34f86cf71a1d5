"""Tokens that are bound to aggregates: by which claims, and what they open at every door."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from starlette.requests import Request

from eventfleet.http import (
    AggregateSelection,
    Grant,
    Operation,
    QueryParameters,
    RequestContext,
    RequestRefused,
    TokenAccess,
    json_response,
)
from eventfleet.states.view_reader import RowPage, ViewReader
from eventfleet.web.bound_aggregates import bound_aggregates
from eventfleet.web.feed_sockets import feed_sockets
from tests.unit.http_fixture import PLACE, SECRET, Web, problem, token, web

ALL_SCOPES = "*:read *:write *:operate metrics"
OWN = {"aggregate_ids": ["orders:o-1"], "aggregate_prefixes": ["orders:eu-"]}
REFUSED = (403, "aggregate-refused")


class Door(NamedTuple):
    """A route, a request to it, and what a bound token gets: an answer for its own aggregates
    (`own`), the rows of these (`rows`), names (`names`), or nothing (`refused`); `open`: no token
    is looked at."""

    method: str
    path: str
    decision: str
    query: str = ""
    body: Any = None


AGGREGATE, LETTERS = "/domains/{domain}/{id}", "/dead-letters/{domain}"
DOORS = [
    Door("POST", f"{AGGREGATE}/commands/{{command}}", "own", body=PLACE),
    Door("GET", f"{AGGREGATE}/events", "own"),
    Door("GET", f"{AGGREGATE}/snapshot", "own"),
    Door("GET", f"{AGGREGATE}/state", "own"),
    Door("GET", f"{AGGREGATE}/diff", "own", "?first=0&second=1"),
    Door("GET", f"{AGGREGATE}/difference", "own", "?first=0&second=1"),
    Door("GET", f"{AGGREGATE}/missing", "own", "?after=0"),
    Door("SOCKET", f"{AGGREGATE}/socket", "own"),
    Door("GET", "/views/{domain}/{view}", "rows"),
    Door("GET", "/domains", "names"),
    Door("GET", "/openapi.json", "names"),
    Door("GET", "/domains/{domain}/aggregates", "refused"),
    Door("GET", "/domains/{domain}/feed", "refused"),
    Door("GET", LETTERS, "refused"),
    Door("POST", f"{LETTERS}/redrive", "refused", body={"aggregate_id": "o-1"}),
    Door(
        *("POST", f"{LETTERS}/discard", "refused", ""),
        {"role": "append", "aggregate_id": "o-1", "version": 1, "why": "x"},
    ),
    Door("GET", "/metrics", "refused"),
    Door("GET", "/live", "open"),
    Door("GET", "/ready", "open"),
]


class OrderParameters(QueryParameters):
    id: str = ""


def bearer(scope: str = ALL_SCOPES, **claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {token(scope=scope, **claims)}"}


@pytest.fixture
async def shop() -> AsyncIterator[Web]:
    access = TokenAccess(SECRET)
    followed: Any = {"orders": None}
    async with web(access=access, sockets=feed_sockets(access, followed)) as found:
        await found.send("o-1/commands/Place", **bearer())
        yield found


async def ask(shop: Web, door: Door, id: str, **claims: Any) -> tuple[int, str] | None:
    """Returns the problem of an answer to a bound token, but for one of not finding anything."""
    path = door.path.format(domain="orders", id=id, command="Place", view="orders")
    headers = bearer(**(claims or OWN))
    found = await shop.client.request(
        door.method, path + door.query, json=door.body, headers=headers
    )
    return problem(found) if found.status_code >= 400 and found.status_code != 404 else None


def decided(decision: str) -> Any:
    doors = [each for each in DOORS if each.decision == decision and each.method != "SOCKET"]
    return pytest.mark.parametrize("door", doors, ids=lambda door: door.path)


async def test_there_is_a_decision_for_every_route(shop: Web) -> None:
    routes = {
        (method, route.path)
        for route in shop.app._router.routes
        for method in getattr(route, "methods", None) or ["SOCKET"]
        if method != "HEAD"
    }
    assert routes == {(door.method, door.path) for door in DOORS}


@decided("own")
async def test_a_path_with_an_id_opens_for_own_ids_only(shop: Web, door: Door) -> None:
    for own in ("o-1", "eu-", "eu-7"):
        assert await ask(shop, door, own) is None
    asked = len(shop.storing.asked)
    for other in ("o-2", "o-10", "o", "eu", "us-1", "O-1", "o-1%2F", "%6F-2", "o-1%20"):
        assert await ask(shop, door, other) == REFUSED
    assert await ask(shop, door, "o-1", aggregate_ids=["bank:o-1", "order:s:o-1"]) == REFUSED
    assert await ask(shop, door, "o-1", aggregate_ids=[]) == REFUSED
    assert await ask(shop, door, "o-1", aggregate_ids=["*:o-1"]) is None
    assert len(shop.storing.asked) == asked + (door.method == "POST")


@decided("refused")
async def test_what_has_many_aggregates_is_shut(shop: Web, door: Door) -> None:
    assert await ask(shop, door, "o-1") == REFUSED
    assert await ask(shop, door, "o-1", aggregate_prefixes=["*:o"]) == REFUSED


@decided("names")
async def test_names_are_told(shop: Web, door: Door) -> None:
    assert await ask(shop, door, "") is None


@decided("rows")
async def test_of_views_only_own_rows_are_read(
    shop: Web, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[AggregateSelection | None] = []

    async def find(*_: Any, aggregates: AggregateSelection | None, **__: Any) -> RowPage:
        asked.append(aggregates)
        return RowPage([], None)

    monkeypatch.setattr(ViewReader, "find", find)
    assert await ask(shop, door, "") is None
    assert await ask(shop, door, "", aggregate_ids=["bank:a", "*:b"]) is None
    assert await ask(shop, door, "", aggregate_ids=[]) is None
    found = await shop.client.get("/views/orders/orders", headers=bearer())
    assert found.status_code == 200
    assert asked == [
        AggregateSelection(frozenset({"o-1"}), ("eu-",)),
        AggregateSelection(frozenset({"b"})),
        AggregateSelection(),
        None,
    ]
    totals = door._replace(path="/views/{domain}/orders_by_day")
    assert await ask(shop, totals, "") == REFUSED
    assert len(asked) == 4


@pytest.mark.parametrize("path", ["/own/{id}", "/own", "/own/{order}"])
@pytest.mark.parametrize("keeps_bounds", [False, True])
async def test_a_teams_own_operation_is_shut_unless_it_has_the_id_or_keeps_bounds(
    path: str, keeps_bounds: bool
) -> None:
    async def handler(context: RequestContext) -> Any:
        context.grant.require_aggregate("orders", context.request.query_params["id"])
        return json_response({})

    own = Operation("own", "GET", path, "read", handler, {200: dict}, domain="orders")
    own = own._replace(parameters=OrderParameters, keeps_bounds=keeps_bounds)
    async with web(access=TokenAccess(SECRET), operations=[own]) as shop:
        for id in ("o-1", "o-2"):
            at = path.format(id=id, order=id)
            found = await shop.client.get(f"{at}?id={id}", headers=bearer(**OWN))
            opened = id == "o-1" and (keeps_bounds or path == "/own/{id}")
            assert found.status_code == (200 if opened else 403)
        assert (await shop.client.get(f"{path}?id=o-2", headers=bearer())).status_code == 200


# Claims


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aggregate_ids": None}, "the claim aggregate_ids is not a list of strings"),
        ({"aggregate_ids": "orders:o-1"}, "the claim aggregate_ids is not a list of strings"),
        ({"aggregate_ids": {"orders": ["o-1"]}}, "the claim aggregate_ids is not a list"),
        ({"aggregate_prefixes": True}, "the claim aggregate_prefixes is not a list of strings"),
        ({"aggregate_ids": ["orders:o-1", 1]}, "the claim aggregate_ids has 1: not a domain"),
        ({"aggregate_ids": [["orders:o-1"]]}, "the claim aggregate_ids has ['orders:o-1']"),
        ({"aggregate_ids": ["o-1"]}, "the claim aggregate_ids has 'o-1': not a domain"),
        ({"aggregate_ids": [":o-1"]}, "the claim aggregate_ids has ':o-1'"),
        ({"aggregate_ids": ["*"]}, "the claim aggregate_ids has '*'"),
        ({"aggregate_ids": ["orders:"]}, "the claim aggregate_ids has 'orders:'"),
        ({"aggregate_prefixes": ["orders:"]}, "the claim aggregate_prefixes has 'orders:'"),
        ({"aggregate_prefixes": ["*:"]}, "the claim aggregate_prefixes has '*:'"),
        ({"aggregate_prefixes": [""]}, "the claim aggregate_prefixes has ''"),
        ({"aggregate_ids": ["orders:" + 256 * "x"]}, "1 to 255 characters"),
        ({"aggregate_ids": ["orders:\0"]}, "without NUL"),
        ({"aggregate_id": ["orders:o-1"]}, "the claim aggregate_id is unknown"),
        ({"Aggregate_IDs": ["orders:o-1"]}, "the claim Aggregate_IDs is unknown"),
        ({"aggregates": []} | OWN, "the claim aggregates is unknown; known are aggregate_ids and"),
    ],
)
async def test_a_claim_that_is_none_is_refused_and_never_widened(
    shop: Web, claims: dict[str, Any], reason: str
) -> None:
    found = await shop.get("o-1/state", **bearer(**claims))
    assert problem(found) == (401, "token-refused")
    assert reason in found.json()["detail"]


def test_half_a_character_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        bound_aggregates({"aggregate_ids": ["orders:\ud800"]})


@pytest.mark.parametrize("id", ["*", "a*", "a:b", ":", "é", "%"])
def test_an_id_and_a_prefix_are_taken_by_the_letter(id: str) -> None:
    for claim in ("aggregate_ids", "aggregate_prefixes"):
        grant = granted(**{claim: [f"orders:{id}"]})
        grant.require_aggregate("orders", id)
        for other in ("o-1", "A*", "", f"x{id}"):
            with pytest.raises(RequestRefused, match="do not include"):
                grant.require_aggregate("orders", other)


def test_a_token_without_the_claims_is_unbound() -> None:
    assert granted().bound_to is None
    assert granted(aggregate_ids=[]).bound_to == {}
    assert granted(aggregate_prefixes=[]).bound_to == {}


def granted(**claims: Any) -> Grant:
    header = bearer(**claims)["authorization"].encode()
    headers = [(b"authorization", header)]
    return TokenAccess(SECRET).grant(Request({"type": "http", "headers": headers}))
