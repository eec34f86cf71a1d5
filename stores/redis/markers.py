"""Markers on Redis."""

import re
from collections.abc import Sequence
from functools import lru_cache
from secrets import token_hex
from typing import Any

from stores.contracts import Life, Mark, Marked, Note, Verdict
from stores.errors import Misconfigured
from stores.redis.scripts import CONFIRM, LIFE, MARK, WITHDRAW, Script
from stores.redis.session import Call, Command, Sessions
from stores.terms import Terms
from topics.record import new_tuple

POLICY = "noeviction"
VERDICTS = {verdict.value.encode(): verdict for verdict in Verdict}
OK, REJECTED = Verdict.OK, Verdict.REJECTED
NOTED = (Verdict.MINE, Verdict.STALE)
_POLICY = re.compile(rb"^maxmemory_policy:(\S+)", re.MULTILINE)


class RedisMarkers:
    """Markers of one domain. Keys are in scripts.py.

    For one Redis server, or one with replicas of which one may be promoted; not for Redis Cluster,
    where the keys of one call would be on several servers. The URL brings address, credentials,
    database and TLS. `timeout` in seconds bounds each call. Nothing connects before the first call.
    Misconfigured when the URL can't be used.
    """

    def __init__(self, url: str, domain: str, terms: Terms, *, timeout: float) -> None:
        expiry, lease, memory = terms
        self._mark = Script(MARK, expiry=expiry, lease=lease, memory=_ms(memory))
        self._confirm = Script(CONFIRM, expiry=_ms(expiry), memory=_ms(memory))
        self._sessions = Sessions(url, timeout, (LIFE, self._mark, self._confirm, WITHDRAW))
        self._what = f"markers of {domain}"
        self._marker, self._done = f"marker:{domain}:", f"done:{domain}:"

    async def prepare(self) -> None:
        async with self._sessions.session("Redis' settings") as session:
            (info,) = await session.call([("INFO", "memory")])
        found = _POLICY.search(info)
        policy = found[1].decode() if found else "unknown"
        if policy != POLICY:
            raise Misconfigured(f"Redis' maxmemory-policy is {policy}: markers need {POLICY}")

    async def life(self) -> Life:
        async with self._sessions.session("Redis' life") as session:
            ((name, began, now),) = await session.run(LIFE, [(("life",), (token_hex(8),))])
        return Life(name.decode(), float(began), float(now))

    async def mark(self, marks: Sequence[Mark]) -> list[Marked]:
        calls = self._calls(marks)
        async with self._sessions.session(self._what) as session:
            replies = await session.run(self._mark, calls)
        return [_marked(mark, reply) for mark, reply in zip(marks, replies, strict=True)]

    async def confirm(self, notes: Sequence[Note], life: Life) -> list[bool]:
        calls = self._calls_of(notes, life)
        async with self._sessions.session(self._what) as session:
            return [bool(reply) for reply in await session.run(self._confirm, calls)]

    async def withdraw(self, notes: Sequence[Note], life: Life) -> None:
        calls = self._calls_of(notes, life)
        async with self._sessions.session(self._what) as session:
            await session.run(WITHDRAW, calls)

    async def close(self) -> None:
        await self._sessions.close()

    def _keys(self, aggregate_id: str, event_id: str) -> Command:
        return ("life", self._marker + aggregate_id, self._done + event_id)

    def _calls(self, marks: Sequence[Mark]) -> list[Call]:
        """Keys and arguments, in the order in which the script takes them after the run id."""
        keys = self._keys
        return [
            (
                keys(aggregate_id, event_id),
                (life.id, _stamp(life.now), event_id, kind, value, _rule(allowed), *(basis or ())),
            )
            for aggregate_id, event_id, kind, value, allowed, life, basis in marks
        ]

    def _calls_of(self, notes: Sequence[Note], life: Life) -> list[Call]:
        keys, name = self._keys, life.id
        return [
            (keys(aggregate_id, event_id), (name, event_id, prev))
            for aggregate_id, event_id, prev in notes
        ]


def _marked(mark: Mark, reply: Sequence[Any]) -> Marked:
    verdict = VERDICTS[reply[0]]
    if verdict is OK:
        _, prev, tentative = reply
        noted = OK, mark.event_id, prev.decode(), mark.value, tentative == b"1", ""
        return new_tuple(Marked, noted)
    if verdict is REJECTED:
        return Marked(REJECTED, type=reply[1].decode())
    if verdict not in NOTED:
        return Marked(verdict)
    _, event_id, prev, tentative, value = reply
    return Marked(verdict, event_id.decode(), prev.decode(), value, tentative == b"1")


@lru_cache(maxsize=64)
def _stamp(seconds: float) -> str:
    """As Lua's tonumber reads it back without loss."""
    return repr(seconds)


@lru_cache(maxsize=1024)
def _rule(allowed: frozenset[str] | None) -> str:
    return "" if allowed is None else "\0".join(("", *sorted(allowed), ""))


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
