"""Markers on Redis."""

import re
from collections.abc import Sequence
from secrets import token_hex
from typing import Any

from stores.contracts import Life, Mark, Marked, Note, Verdict
from stores.errors import Misconfigured
from stores.redis.scripts import CONFIRM, LIFE, MARK, WITHDRAW
from stores.redis.session import Command, Sessions
from stores.terms import Terms

POLICY = "noeviction"
NOTES = (Verdict.OK, Verdict.MINE, Verdict.STALE)
_POLICY = re.compile(rb"^maxmemory_policy:(\S+)", re.MULTILINE)


class RedisMarkers:
    """Markers of one domain. Keys are in scripts.py.

    For one Redis server, or one with replicas of which one may be promoted; not for Redis Cluster,
    where the keys of one call would be on several servers. The URL brings address, credentials,
    database and TLS. `timeout` in seconds bounds each call. Nothing connects before the first call.
    Misconfigured when the URL can't be used.
    """

    def __init__(self, url: str, domain: str, terms: Terms, *, timeout: float) -> None:
        self._sessions = Sessions(url, timeout)
        self._domain, self._terms = domain, terms

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
        calls = [(self._keys(m.aggregate_id, m.event_id), self._arguments(m)) for m in marks]
        async with self._sessions.session(f"markers of {self._domain}") as session:
            replies = await session.run(MARK, calls)
        return [_marked(mark, reply) for mark, reply in zip(marks, replies, strict=True)]

    async def confirm(self, notes: Sequence[Note], life: Life) -> list[bool]:
        times = _ms(self._terms.expiry), _ms(self._terms.memory)
        calls = [
            (self._keys(n.aggregate_id, n.event_id), (life.id, n.event_id, n.prev, *times))
            for n in notes
        ]
        async with self._sessions.session(f"markers of {self._domain}") as session:
            return [bool(reply) for reply in await session.run(CONFIRM, calls)]

    async def withdraw(self, notes: Sequence[Note], life: Life) -> None:
        calls = [
            (self._keys(n.aggregate_id, n.event_id), (life.id, n.event_id, n.prev)) for n in notes
        ]
        async with self._sessions.session(f"markers of {self._domain}") as session:
            await session.run(WITHDRAW, calls)

    async def close(self) -> None:
        await self._sessions.close()

    def _keys(self, aggregate_id: str, event_id: str) -> Command:
        domain = self._domain
        return ("life", f"marker:{domain}:{aggregate_id}", f"done:{domain}:{event_id}")

    def _arguments(self, mark: Mark) -> Command:
        """In the order in which the script takes them, after the run id."""
        expiry, lease, memory = self._terms
        times = repr(mark.life.now), repr(float(expiry)), repr(float(lease)), _ms(memory)
        basis = mark.basis or ("", "")
        flags = int(mark.allowed is not None), int(mark.basis is not None)
        event = mark.event_id, mark.type, mark.value
        return (mark.life.id, *times, *event, *flags, *basis, *(mark.allowed or ()))


def _marked(mark: Mark, reply: Sequence[Any]) -> Marked:
    verdict = Verdict(reply[0].decode())
    if verdict is Verdict.REJECTED:
        return Marked(verdict, type=reply[1].decode())
    if verdict not in NOTES:
        return Marked(verdict)
    _, event_id, prev, tentative, *value = reply
    noted = value[0] if value else mark.value
    return Marked(verdict, event_id.decode(), prev.decode(), noted, tentative == b"1")


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
