"""Keys for tokens from a URL: a server that rotates them, is slow, is down, or answers rubbish."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web as aiohttp_web
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from starlette.requests import Request

from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.retry import RetryPolicy
from eventfleet.web import RequestRefused, key_set_url
from eventfleet.web.key_set_url import KeySetAccess, KeySetUrl
from tests.unit.eventually import until
from tests.unit.http_fixture import AUDIENCE, problem, web

Answer = Callable[[], Awaitable[aiohttp_web.StreamResponse]]
OLD, NEW = (ECKey.generate_key("P-256", {"kid": kid}) for kid in ("old", "new"))


class Provider:
    """An identity provider at a port of this machine."""

    def __init__(self) -> None:
        self.keys: list[Any] = [OLD]
        self.answer: Answer = self.answer_keys
        self.asked = 0
        self.url = ""
        self._runner: aiohttp_web.AppRunner | None = None

    async def start(self) -> None:
        app = aiohttp_web.Application()
        app.router.add_get("/keys", self._respond)
        self._runner = aiohttp_web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        port = int(self.url.split(":")[2].partition("/")[0]) if self.url else 0
        await aiohttp_web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/keys"

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def _respond(self, request: aiohttp_web.Request) -> aiohttp_web.StreamResponse:
        self.asked += 1
        return await self.answer()

    async def answer_keys(self) -> aiohttp_web.StreamResponse:
        return aiohttp_web.json_response(self.jwks())

    def jwks(self) -> dict[str, Any]:
        return {"keys": [key.as_dict(private=False) for key in self.keys]}


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    await provider.start()
    yield provider
    await provider.stop()


@asynccontextmanager
async def opened(provider: Provider) -> AsyncIterator[KeySetAccess]:
    keys = KeySetUrl(provider.url)
    async with keys.running():
        yield KeySetAccess(keys, "", AUDIENCE)


def request(value: str) -> Request:
    return Request({"type": "http", "headers": [(b"authorization", f"bearer {value}".encode())]})


def signed(key: ECKey, **claims: Any) -> str:
    header = {"alg": "ES256"} | ({"kid": key.kid} if key.kid else {})
    known = {"exp": 4_000_000_000, "aud": AUDIENCE, "scope": "*:write"}
    return jwt.encode(header, known | claims, key)


async def status(access: KeySetAccess, key: ECKey, **claims: Any) -> int:
    """Returns the status of the answer to a token that this key has signed."""
    try:
        await access.grant(request(signed(key, **claims)))
    except RequestRefused as error:
        return error.problem_type.status
    return 200


async def test_a_key_that_is_new_is_fetched_once_for_all_that_wait(provider: Provider) -> None:
    async with opened(provider) as access:
        assert await status(access, OLD) == 200
        provider.keys, access._keys._next_fetch = [NEW], 0
        asked = [status(access, NEW, sub=f"{n}") for n in range(50)]
        assert {*await asyncio.gather(*asked)} == {200}
        assert provider.asked == 2
        assert await status(access, OLD) == 401, "a key that is gone verifies nothing"


async def test_unknown_keys_have_the_set_fetched_at_a_bounded_rate(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(provider) as access:
        for _ in range(20):
            assert await status(access, NEW) == 401
        assert provider.asked == 1
        access._keys._next_fetch = 0
        for _ in range(20):
            assert await status(access, NEW) == 401
        assert provider.asked == 2
        assert await status(access, OLD) == 200


async def test_keys_without_names_rotate_too(provider: Provider) -> None:
    first, second = (ECKey.generate_key("P-256", auto_kid=False) for _ in range(2))
    provider.keys = [first]
    async with opened(provider) as access:
        assert await status(access, first) == 200
        provider.keys, access._keys._next_fetch = [second], 0
        assert await status(access, second) == 200


async def test_the_keys_are_fetched_again_by_and_by(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_set_url, "FETCH_EVERY_SECONDS", 0.02)
    async with opened(provider) as access:
        provider.keys = [NEW]
        await until(lambda: access._keys._changed)
        assert await status(access, OLD) == 401


async def test_a_slow_provider_holds_up_nobody_with_a_known_key(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()

    async def hang() -> aiohttp_web.StreamResponse:
        await release.wait()
        return await provider.answer_keys()

    monkeypatch.setattr(key_set_url, "MAX_WAITING_REQUESTS", 3)
    async with opened(provider) as access:
        provider.answer, access._keys._next_fetch = hang, 0
        waiting = [asyncio.create_task(status(access, NEW)) for _ in range(3)]
        await until(lambda: provider.asked == 2)
        assert await status(access, OLD) == 200
        assert await status(access, NEW) == 429, "they wait in no endless row"
        provider.keys = [OLD, NEW]
        release.set()
        assert await asyncio.gather(*waiting) == [200] * 3


async def test_a_provider_that_does_not_answer_is_given_up(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def trickle() -> aiohttp_web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    async with opened(provider) as access:
        monkeypatch.setattr(key_set_url, "FETCH_SECONDS", 0.05)
        provider.answer, access._keys._next_fetch = trickle, 0
        assert await status(access, NEW) == 503
        assert await status(access, OLD) == 200


async def test_while_the_provider_is_away_the_former_keys_stay_in_use(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(key_set_url, "KEY_SET", RetryPolicy(0.02, 0.02))
    monkeypatch.setattr(key_set_url, "FETCH_EVERY_SECONDS", 0.02)
    async with opened(provider) as access:
        await provider.stop()
        access._keys._next_fetch = 0
        assert await status(access, NEW) == 503, "nobody knows whether it is one"
        assert await status(access, OLD) == 200
        assert access._keys._task.problem
        provider.keys = [NEW]
        await provider.start()
        await until(lambda: access._keys._changed)
        assert await status(access, NEW) == 200
        assert access._keys._task.problem is None
        assert "well again" in caplog.text


def rubbish(body: bytes, status: int = 200, **headers: str) -> Answer:
    async def answer() -> aiohttp_web.StreamResponse:
        return aiohttp_web.Response(body=body, status=status, headers=headers)

    return answer


SECRET_SET = {"keys": [OctKey.import_key("a secret that everybody can read").as_dict()]}
KEYS = json.dumps({"keys": [NEW.as_dict(private=False)]}).encode()
RUBBISH = {
    "nothing": (rubbish(b""), "Input data was truncated"),
    "a page": (rubbish(b"<html>sign in</html>"), "JSON is malformed"),
    "no set": (rubbish(b"{}"), "missing required field `keys`"),
    "no list": (rubbish(b'{"keys": {"a": 1}}'), "Expected `array`"),
    "no keys": (rubbish(b'{"keys": []}'), "no key of the set can be used"),
    "no objects": (rubbish(b'{"keys": [1, null, "x"]}'), "no key of the set can be used"),
    "nested": (rubbish(b'{"keys": ' + b"[" * 10_000), "recursion"),
    "a secret": (rubbish(json.dumps(SECRET_SET).encode()), "no key of the set can be used"),
    "an error": (rubbish(KEYS, 500), "the status is 500"),
    "elsewhere": (rubbish(b"", 302, location="http://127.0.0.1:1/"), "the status is 302"),
    "too large": (rubbish(KEYS + b" " * 300_000), "more than 262144 bytes"),
    "packed": (rubbish(gzip.compress(KEYS), **{"content-encoding": "gzip"}), "JSON is malformed"),
}


@pytest.mark.parametrize(("answer", "reason"), RUBBISH.values(), ids=RUBBISH)
async def test_what_is_no_key_set_leaves_the_former_keys_and_starts_nothing(
    provider: Provider, answer: Answer, reason: str
) -> None:
    async with opened(provider) as access:
        provider.answer, access._keys._next_fetch = answer, 0
        assert await status(access, NEW) == 503
        assert await status(access, OLD) == 200
    with pytest.raises(ServerUnavailable, match=reason) as caught:
        async with opened(provider):
            pass
    assert provider.url in str(caught.value)


async def test_a_request_waits_for_a_key_that_is_new(provider: Provider) -> None:
    async with opened(provider) as access, web(access=access) as shop:
        provider.keys, access._keys._next_fetch = [NEW], 0
        found = await shop.send(authorization=f"Bearer {signed(NEW)}")
        assert found.status_code == 202
        found = await shop.send(authorization=f"Bearer {signed(NEW, aud='https://other.example')}")
        assert problem(found) == (401, "token-refused")
