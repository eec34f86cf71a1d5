"""Markers on Redis."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from secrets import token_hex
from typing import Any

from eventfleet.stores.contracts import Incarnation, MarkRequest, MarkResult, MarkStatus, Note
from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.redis.scripts import (
    CONFIRM,
    INCARNATION,
    MARK,
    PLACEHOLDER,
    WITHDRAW,
    Script,
)
from eventfleet.stores.redis.session import SessionPool
from eventfleet.topics.record import make_tuple

REQUIRED_POLICY = "noeviction"
STATUSES = {verdict.value.encode(): verdict for verdict in MarkStatus}
OK, REJECTED = MarkStatus.OK, MarkStatus.REJECTED
NOTED = (MarkStatus.MINE, MarkStatus.STALE)
KEYS = (b"life", PLACEHOLDER, PLACEHOLDER)
_POLICY = re.compile(rb"^maxmemory_policy:(\S+)", re.MULTILINE)


class RedisMarkers:
    """Markers of one domain. Keys are in scripts.py.

    For one Redis server, or one with replicas of which one may be promoted; not for Redis Cluster,
    where the keys of one call would be on several servers. The URL brings address, credentials,
    database and TLS. `timeout` in seconds bounds each call. Nothing connects before the first call.
    Misconfigured when the URL can't be used.
    """

    def __init__(self, url: str, domain: str, terms: MarkerTimeouts, *, timeout: float) -> None:
        expiry, lease, memory = terms
        self._mark = Script(MARK, expiry=expiry, lease=lease, memory=_ms(memory))
        self._confirm = Script(CONFIRM, expiry=_ms(expiry), memory=_ms(memory))
        self._sessions = SessionPool(
            url, timeout, (INCARNATION, self._mark, self._confirm, WITHDRAW)
        )
        self._what = f"markers of {domain}"
        self._marker, self._done = f"marker:{domain}:".encode(), f"done:{domain}:".encode()

    async def prepare(self) -> None:
        async with self._sessions.session("Redis' settings") as session:
            (info,) = await session.call([("INFO", "memory")])
        found = _POLICY.search(info)
        policy = found[1].decode() if found else "unknown"
        if policy != REQUIRED_POLICY:
            raise Misconfigured(
                f"Redis' maxmemory-policy is {policy}: markers need {REQUIRED_POLICY}"
            )

    async def incarnation(self) -> Incarnation:
        async with self._sessions.session("Redis' life") as session:
            ((name, began, now),) = await session.run(INCARNATION, _look, 1)
        return Incarnation(name.decode(), float(began), float(now))

    async def mark(self, marks: Sequence[MarkRequest]) -> list[MarkResult]:
        calls = partial(self._marks, marks)
        async with self._sessions.session(self._what) as session:
            replies = await session.run(self._mark, calls, len(marks))
        return [_marked(mark, reply) for mark, reply in zip(marks, replies, strict=True)]

    async def confirm(self, notes: Sequence[Note], incarnation: Incarnation) -> list[bool]:
        return [bool(reply) for reply in await self._settle(self._confirm, notes, incarnation)]

    async def withdraw(self, notes: Sequence[Note], incarnation: Incarnation) -> None:
        await self._settle(WITHDRAW, notes, incarnation)

    async def close(self) -> None:
        await self._sessions.close()

    async def _settle(
        self, script: Script, notes: Sequence[Note], incarnation: Incarnation
    ) -> list[Any]:
        calls = partial(self._notes, script, notes, incarnation)
        async with self._sessions.session(self._what) as session:
            return await session.run(script, calls, len(notes))

    def _marks(self, marks: Sequence[MarkRequest], run: bytes) -> Iterator[bytes]:
        """Keys and arguments, in the order in which the script takes them."""
        for aggregate_id, event_id, kind, value, allowed, incarnation, basis in marks:
            marker, name = self._marker + aggregate_id.encode(), event_id.encode()
            done = self._done + name
            each = len(marker), marker, len(done), done, len(name), name, len(value), value
            form = _form_of_marks(self._mark, run, incarnation, kind, allowed, basis is not None)
            if basis is None:
                yield form % each
            else:
                after, last = basis.type.encode(), basis.event_id.encode()
                yield form % (*each, len(after), after, len(last), last)

    def _notes(
        self, script: Script, notes: Sequence[Note], incarnation: Incarnation, run: bytes
    ) -> Iterator[bytes]:
        form = script.form(KEYS, (run, incarnation.id.encode(), PLACEHOLDER, PLACEHOLDER))
        for aggregate_id, event_id, prev in notes:
            marker, name = self._marker + aggregate_id.encode(), event_id.encode()
            done, before = self._done + name, prev.encode()
            each = len(marker), marker, len(done), done, len(name), name, len(before), before
            yield form % each


@lru_cache(maxsize=256)
def _form_of_marks(
    script: Script,
    run: bytes,
    incarnation: Incarnation,
    kind: str,
    allowed: frozenset[str] | None,
    based: bool,
) -> bytes:
    rule = "" if allowed is None else "\0".join(("", *sorted(allowed), ""))
    seen = repr(incarnation.now)  # as Lua's tonumber reads it back without loss
    fixed = (text.encode() for text in (incarnation.id, seen, kind, rule))
    return script.form(KEYS, (run, *fixed, *(PLACEHOLDER,) * (4 if based else 2)))


def _look(run: bytes) -> Iterable[bytes]:
    return [INCARNATION.form((b"life",), (run, token_hex(8).encode())) % ()]


def _marked(mark: MarkRequest, reply: Sequence[Any]) -> MarkResult:
    verdict = STATUSES[reply[0]]
    if verdict is OK:
        _, prev, tentative = reply
        noted = OK, mark.event_id, prev.decode(), mark.value, tentative == b"1", ""
        return make_tuple(MarkResult, noted)
    if verdict is REJECTED:
        return MarkResult(REJECTED, type=reply[1].decode())
    if verdict not in NOTED:
        return MarkResult(verdict)
    _, event_id, prev, tentative, value = reply
    return MarkResult(verdict, event_id.decode(), prev.decode(), value, tentative == b"1")


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
