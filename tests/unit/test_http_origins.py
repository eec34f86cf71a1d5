"""Pages of other origins: which may send requests from browsers, and read the responses (CORS)."""

from collections.abc import AsyncIterator, Mapping

import httpx
import pytest

from eventfleet.web import Limits, TokenAccess
from tests.unit.http_fixture import PLACE, SECRET, Web, problem, token, web

PAGE, OTHER = "https://shop.example", "https://evil.example"
COMMAND = "/domains/orders/o-1/commands/Place"
ALLOWED = "access-control-allow-origin"
BEARER = {"authorization": f"Bearer {token(scope='*:read *:write')}"}
ASKED_HEADERS = "authorization, content-type, idempotency-key, if-match, prefer, x-own"


@pytest.fixture
async def shop() -> AsyncIterator[Web]:
    async with web(access=TokenAccess(SECRET), origins=[PAGE, "http://localhost:3000"]) as found:
        yield found


async def preflight(
    shop: Web, origin: str, path: str = COMMAND, method: str = "POST"
) -> httpx.Response:
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": ASKED_HEADERS,
    }
    return await shop.client.options(path, headers=headers)


async def post(shop: Web, origin: str, more: Mapping[str, str] = BEARER) -> httpx.Response:
    return await shop.client.post(COMMAND, json=PLACE, headers={"origin": origin, **more})


@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000"])
async def test_a_listed_page_may_send_a_token_and_read_the_answer(shop: Web, origin: str) -> None:
    asked = await preflight(shop, origin)
    assert (asked.status_code, asked.headers[ALLOWED]) == (200, origin)
    assert asked.headers["access-control-allow-headers"] == ASKED_HEADERS
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in asked.headers
    sent = await post(shop, origin)
    assert (sent.status_code, sent.headers[ALLOWED], sent.headers["vary"]) == (
        202,
        origin,
        "Origin",
    )
    read = await shop.client.get("/domains/orders/o-1/state", headers={"origin": origin, **BEARER})
    assert read.headers["etag"]
    assert "ETag" in read.headers["access-control-expose-headers"].split(", ")


async def test_a_listed_page_can_read_why_it_is_refused(shop: Web) -> None:
    assert problem(unknown := await post(shop, PAGE, {})) == (401, "token-refused")
    shop.storing.error = LookupError("a bug")
    assert problem(failed := await post(shop, PAGE)) == (500, "broken")
    missing = await shop.client.get("/nowhere", headers={"origin": PAGE})
    assert problem(missing) == (404, "no-such-path")
    async with web(limits=Limits(concurrent_requests=0), origins=[PAGE]) as full:
        assert problem(busy := await post(full, PAGE, {})) == (429, "busy")
    assert {each.headers[ALLOWED] for each in (unknown, failed, missing, busy)} == {PAGE}
    assert "Retry-After" in busy.headers["access-control-expose-headers"].split(", ")


@pytest.mark.parametrize(
    "origin", [OTHER, f"{PAGE}.evil.example", "http://shop.example", f"{PAGE}:444", "null", "*", ""]
)
async def test_any_other_page_may_not(shop: Web, origin: str) -> None:
    asked = await preflight(shop, origin)
    assert (asked.status_code, ALLOWED in asked.headers) == (400, False)
    assert ALLOWED not in (await post(shop, origin)).headers


@pytest.mark.parametrize("origin", [PAGE, OTHER, "http://localhost:3000", "null"])
async def test_an_empty_list_allows_no_page(origin: str) -> None:
    async with web(access=TokenAccess(SECRET)) as closed:
        for path in (COMMAND, "/ready", "/openapi.json"):
            asked = await preflight(closed, origin, path, "GET")
            assert problem(asked) == (405, "method-not-allowed")
            assert not [name for name in asked.headers if name.startswith("access-control")]
        sent = await post(closed, origin)
        assert not [name for name in sent.headers if name.startswith("access-control")]


async def test_requests_of_no_page_are_answered_as_before(shop: Web) -> None:
    sent = await shop.client.post(COMMAND, json=PLACE, headers=BEARER)
    assert (sent.status_code, ALLOWED in sent.headers) == (202, False)
    assert problem(await shop.client.options(COMMAND)) == (405, "method-not-allowed")
