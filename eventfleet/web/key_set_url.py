"""The JWK set at a URL, as identity providers publish it, for tokens whose keys rotate."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from joserfc.errors import InvalidKeyIdError
from joserfc.jwk import Key
from starlette.requests import Request

from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.retry import KEY_SET
from eventfleet.web.access import Grant, TokenAccess
from eventfleet.web.key_file import UNUSABLE_KEY_ERRORS, usable_keys
from eventfleet.web.problems import BUSY, UNAVAILABLE, RequestRefused

FETCH_SECONDS = 5.0
FETCH_EVERY_SECONDS = 300.0
"""The keys are fetched again after half of this up to all of it, so that processes differ."""

UNKNOWN_KEY_SECONDS = 10.0
"""The least time, and up to half as long again, before an unknown key has the set fetched again."""

MAX_KEY_SET_BYTES = 256 * 1024
MAX_WAITING_REQUESTS = 100
CHUNK_BYTES = 16_384


class KeySet(msgspec.Struct):
    """A JWK set (RFC 7517, 5)."""

    keys: list[Any]


class KeySetUrl:
    """The keys of the set at a URL; those of the last answer that had any stay in use."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._raw: bytes | None = None
        self._keys: list[Key] = []
        self._changed = False
        self._problem = ""
        self._fetching: asyncio.Task[None] | None = None
        self._next_fetch = 0.0
        self._waiting_requests = 0
        self._task = BackgroundTask("the fetcher of the keys for tokens", self._fetch_on_and_on)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Fetches the keys, and keeps them up to date. ServerUnavailable: there are none."""
        await self._fetch()
        if self._problem:
            raise ServerUnavailable(self._problem)
        try:
            async with self._task.running():
                yield
        finally:
            if self._fetching:
                self._fetching.cancel()

    def load(self) -> list[Key]:
        """Returns the keys."""
        self._changed = False
        return self._keys

    def load_if_changed(self) -> list[Key] | None:
        """Returns the keys where they are others than the last time."""
        return self.load() if self._changed else None

    async def look_again(self) -> None:
        """Fetches the keys for one that is unknown, unless that was just done.

        RequestRefused: nobody knows whether there is such a key.
        """
        if self._waiting_requests >= MAX_WAITING_REQUESTS:
            raise RequestRefused(BUSY, f"{MAX_WAITING_REQUESTS} requests wait for the keys")
        if self._is_fetching() or time.monotonic() >= self._next_fetch:
            self._waiting_requests += 1
            try:
                await self._fetch()
            finally:
                self._waiting_requests -= 1
        if self._problem:
            raise RequestRefused(UNAVAILABLE, "the keys that verify tokens can't be fetched now")

    def _is_fetching(self) -> bool:
        return self._fetching is not None and not self._fetching.done()

    async def _fetch(self) -> None:
        """Fetches once; whoever comes meanwhile waits for the same answer."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch_once())
        await asyncio.shield(self._fetching)

    async def _fetch_on_and_on(self) -> None:
        failures = 0
        while True:
            failures = failures + 1 if self._problem else 0
            pause = FETCH_EVERY_SECONDS * (1 + random.random()) / 2
            await asyncio.sleep(KEY_SET.pause(failures) if failures else pause)
            await self._fetch()

    async def _fetch_once(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                self._take(await self._read())
        except (
            aiohttp.ClientError,
            OSError,
            TimeoutError,
            RecursionError,
            *UNUSABLE_KEY_ERRORS,
        ) as error:
            reason = str(error) or type(error).__name__
            self._problem = f"{self._url} has no valid key set for tokens: {reason}"
            self._task.report_failure(ServerUnavailable(self._problem))
        else:
            self._problem = ""
            self._task.report_well()
        self._next_fetch = time.monotonic() + UNKNOWN_KEY_SECONDS * (1 + random.random() / 2)

    async def _read(self) -> bytes:
        raw = bytearray()
        # Neither a redirect nor a compressed body is followed: both hide what the limits are for.
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.get(
                self._url, allow_redirects=False, headers={"Accept-Encoding": "identity"}
            ) as response,
        ):
            if response.status != 200:
                raise ValueError(f"the status is {response.status}")
            async for part in response.content.iter_chunked(CHUNK_BYTES):
                raw += part
                if len(raw) > MAX_KEY_SET_BYTES:
                    raise ValueError(f"it has more than {MAX_KEY_SET_BYTES} bytes")
        return bytes(raw)

    def _take(self, raw: bytes) -> None:
        if raw == self._raw:
            return
        jwks = msgspec.json.decode(raw, type=KeySet).keys
        keys = usable_keys(jwks, self._url, symmetric=False)
        self._raw, self._keys, self._changed = raw, keys, True


class KeySetAccess:
    """TokenAccess with the keys of a URL, which are fetched again for one that is unknown."""

    secured = True

    def __init__(self, keys: KeySetUrl, issuer: str, audience: str) -> None:
        self._keys, self._tokens = keys, TokenAccess(keys, issuer, audience)

    async def grant(self, request: Request) -> Grant:
        """Returns the rights of the token. RequestRefused: there is none that is valid now."""
        try:
            return self._tokens.grant(request)
        except RequestRefused as error:
            if not isinstance(error.__cause__, InvalidKeyIdError):
                raise
        await self._keys.look_again()
        return self._tokens.grant(request)
