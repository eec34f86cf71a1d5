"""Markers, on Redis."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

from eventfleet.stores.contracts import (
    CurrentMarker,
    Incarnation,
    MarkOwner,
    MarkRequest,
    MarkResult,
    MarkStatus,
    Note,
)
from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.redis.incarnation import read_incarnation
from eventfleet.stores.redis.scripts import (
    CONFIRM,
    DROP,
    INCARNATION,
    MARK,
    PLACEHOLDER,
    WITHDRAW,
    Script,
)
from eventfleet.stores.redis.session import RedisCommand, SessionPool
from eventfleet.topics.event import EventKey
from eventfleet.topics.record import make_tuple

REQUIRED_POLICY = "noeviction"
PROBE_MILLISECONDS = 1_000
STATUSES = {status.value.encode(): status for status in MarkStatus}
OK, REJECTED = MarkStatus.OK, MarkStatus.REJECTED
WITH_NOTE = (MarkStatus.MINE, MarkStatus.STALE)
NEVER = 1e12
"""Later than each deadline, in seconds since 1970."""
Words = tuple[int | bytes, ...]
"""What a template takes: the length and bytes of each word."""
_POLICY = re.compile(rb"^maxmemory_policy:(\S+)", re.MULTILINE)


class RedisMarkers:
    """Markers of one domain; scripts.py describes the keys, whose names begin with `prefix`.

    For one Redis server, or one with replicas of which one may be promoted; not for Redis Cluster,
    where the keys of one call would be on several servers. The URL brings address, credentials,
    database and TLS. `timeout` in seconds bounds each call; the first call connects. Misconfigured:
    the URL can't be used.
    """

    def __init__(
        self, url: str, domain: str, timeouts: MarkerTimeouts, *, timeout: float, prefix: str = ""
    ) -> None:
        expiry, lease, memory = timeouts
        self._mark = Script(MARK, expiry=expiry, lease=lease, memory=_ms(memory))
        self._confirm = Script(CONFIRM, expiry=_ms(expiry), memory=_ms(memory))
        self._pool = SessionPool(url, timeout, (INCARNATION, self._mark, self._confirm, WITHDRAW))
        self._label = f"markers of {domain}"
        kinds = "marker", "done", "owner"
        self._life = f"{prefix}life".encode()
        self._marker, self._done, self._owner = (
            f"{prefix}{kind}:{domain}:".encode() for kind in kinds
        )

    async def prepare(self) -> None:
        async with self._pool.session("prepare", "Redis' settings") as session:
            (info,) = await session.call([("INFO", "memory")])
        found = _POLICY.search(info)
        policy = found[1].decode() if found else "unknown"
        if policy != REQUIRED_POLICY:
            raise Misconfigured(
                f"Redis' maxmemory-policy is {policy}: markers need {REQUIRED_POLICY}"
            )

    async def check_writable(self) -> None:
        # As of an event with this id; the value is no incarnation, so it counts as absent.
        async with self._pool.session("prepare", self._label) as session:
            await session.call([("SET", self._done + b"readiness", b"", "PX", PROBE_MILLISECONDS)])

    async def incarnation(self) -> Incarnation:
        async with self._pool.session("incarnation", "Redis' incarnation") as session:
            return await read_incarnation(session, self._life)

    async def read(self, aggregate_ids: Sequence[str]) -> dict[str, CurrentMarker]:
        names = ("life", "type", "last", "pend", "prev")
        commands: list[RedisCommand] = [
            ("HMGET", self._marker + key.encode(), *names) for key in aggregate_ids
        ]
        async with self._pool.session("read", self._label) as session:
            present, *found = await session.call([("HMGET", self._life, "id", "run"), *commands])
            current = present[0] if present[1] == session.run_id else None
        return {
            key: CurrentMarker(
                kind.decode(), last.decode(), pend is not None, (prev or b"").decode()
            )
            for key, (life, kind, last, pend, prev) in zip(aggregate_ids, found, strict=True)
            if life is not None and life == current
        }

    async def note_owner(self, owner: MarkOwner, incarnation: Incarnation) -> None:
        noted = f"{incarnation.id} {owner.id}"
        async with self._pool.session("note_owner", self._label) as session:
            await session.call([("SET", self._owner_key(owner), noted)])

    async def mark(self, requests: Sequence[MarkRequest]) -> list[MarkResult]:
        calls = partial(self._pack_requests, requests)
        async with self._pool.session("mark", self._label) as session:
            replies = await session.run_script(self._mark, calls, len(requests))
        return [_result(request, reply) for request, reply in zip(requests, replies, strict=True)]

    async def confirm(self, notes: Sequence[Note], incarnation: Incarnation) -> list[bool]:
        return [
            bool(reply)
            for reply in await self._settle("confirm", self._confirm, notes, incarnation)
        ]

    async def withdraw(self, notes: Sequence[Note], incarnation: Incarnation) -> None:
        await self._settle("withdraw", WITHDRAW, notes, incarnation)

    async def drop(self, keys: Sequence[EventKey], incarnation: Incarnation) -> None:
        await self._settle("drop", DROP, [Note(*key, "") for key in keys], incarnation)

    async def close(self) -> None:
        await self._pool.close()

    async def _settle(
        self, operation: str, script: Script, notes: Sequence[Note], incarnation: Incarnation
    ) -> list[Any]:
        calls = partial(self._pack_notes, script, notes, incarnation)
        async with self._pool.session(operation, self._label) as session:
            return await session.run_script(script, calls, len(notes))

    def _pack_requests(self, requests: Sequence[MarkRequest], run_id: bytes) -> Iterator[bytes]:
        """Pack keys and arguments in the order in which the script takes them."""
        for request in requests:
            aggregate_id, event_id, kind, value, allowed, incarnation, basis, deadline, owner = (
                request
            )
            marker, name = self._marker + aggregate_id.encode(), event_id.encode()
            done = self._done + name
            ends = b"%.6f" % min(deadline, NEVER)
            keys: Words = (len(marker), marker, len(done), done)
            mark: Words = (len(name), name, len(value), value, len(ends), ends)
            if owner is None:
                each = (*keys, *mark, 0, b"")
            else:
                key, id = self._owner_key(owner), owner.id.encode()
                each = (*keys, len(key), key, *mark, len(id), id)
            template = _request_template(
                *(self._mark, self._life, run_id, incarnation, kind, allowed),
                with_owner=owner is not None,
                with_basis=basis is not None,
            )
            if basis is None:
                yield template % each
            else:
                after, last = basis.type.encode(), basis.event_id.encode()
                yield template % (*each, len(after), after, len(last), last)

    def _owner_key(self, owner: MarkOwner) -> bytes:
        return self._owner + b"%d" % owner.partition

    def _pack_notes(
        self, script: Script, notes: Sequence[Note], incarnation: Incarnation, run_id: bytes
    ) -> Iterator[bytes]:
        template = _note_template(script, self._life, run_id, incarnation.id)
        for aggregate_id, event_id, prev in notes:
            marker, name = self._marker + aggregate_id.encode(), event_id.encode()
            done, before = self._done + name, prev.encode()
            each = len(marker), marker, len(done), done, len(name), name, len(before), before
            yield template % each


@lru_cache(maxsize=256)
def _request_template(
    script: Script,
    life: bytes,
    run_id: bytes,
    incarnation: Incarnation,
    kind: str,
    allowed: frozenset[str] | None,
    *,
    with_owner: bool,
    with_basis: bool,
) -> bytes:
    rule = "" if allowed is None else "\0".join(("", *sorted(allowed), ""))
    seen = repr(incarnation.now)  # as Lua's tonumber reads it back without loss
    first = "1" if incarnation.is_first else ""
    fixed = (text.encode() for text in (incarnation.id, first, seen, kind, rule))
    keys = (life, *(PLACEHOLDER,) * (3 if with_owner else 2))
    return script.template(keys, (run_id, *fixed, *(PLACEHOLDER,) * (6 if with_basis else 4)))


@lru_cache(maxsize=16)
def _note_template(script: Script, life: bytes, run_id: bytes, incarnation_id: str) -> bytes:
    words = (run_id, incarnation_id.encode(), PLACEHOLDER, PLACEHOLDER)
    return script.template((life, PLACEHOLDER, PLACEHOLDER), words)


def _result(request: MarkRequest, reply: Sequence[Any]) -> MarkResult:
    status = STATUSES[reply[0]]
    if status is OK:
        _, prev, tentative = reply
        noted = OK, request.event_id, prev.decode(), request.value, tentative == b"1", ""
        return make_tuple(MarkResult, noted)
    if status is REJECTED:
        _, kind, last, tentative = reply
        return MarkResult(REJECTED, last.decode(), tentative=tentative == b"1", type=kind.decode())
    if status not in WITH_NOTE:
        return MarkResult(status)
    _, event_id, prev, tentative, value = reply
    return MarkResult(status, event_id.decode(), prev.decode(), value, tentative == b"1")


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
