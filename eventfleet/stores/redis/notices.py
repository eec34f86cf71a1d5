"""Notices, on the channels of Redis."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from eventfleet.stores.contracts import Notice
from eventfleet.stores.redis.channels import QUIET_SECONDS, RedisChannels
from eventfleet.topics.values import DECODE_ERRORS

MAX_MESSAGE_NOTICES = 1000

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Notice]).decode


class RedisNotices:
    """Notices on Redis; a channel's message has many. See RedisChannels for the parameters.

    Those with a disposition are in messages of their own: earlier versions of this package take
    messages of pairs only.
    """

    def __init__(
        self, url: str, *, timeout: float, quiet: float = QUIET_SECONDS, prefix: str = ""
    ) -> None:
        self._channels = RedisChannels(url, timeout=timeout, quiet=quiet, prefix=prefix)

    async def publish(self, notices: Mapping[str, Sequence[Notice]]) -> None:
        await self._channels.publish({channel: _pack(each) for channel, each in notices.items()})

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[Notice]]:
        async with self._channels.subscribe(channel) as messages:
            yield _unpack(messages)

    async def close(self) -> None:
        await self._channels.close()


def _pack(notices: Sequence[Notice]) -> list[bytes]:
    reached = [(each.event_id, each.stage) for each in notices if each.disposition is None]
    others = [each for each in notices if each.disposition is not None]
    return [_encode(part) for all in (reached, others) for part in _parts(all)]


def _parts(notices: Sequence[Any]) -> list[Sequence[Any]]:
    starts = range(0, len(notices), MAX_MESSAGE_NOTICES)
    return [notices[start : start + MAX_MESSAGE_NOTICES] for start in starts]


async def _unpack(messages: AsyncIterator[Sequence[bytes]]) -> AsyncIterator[Notice]:
    """Decode the notices in messages; others may publish what is none."""
    async for together in messages:
        for message in together:
            for notice in _decode_message(message):
                yield notice


def _decode_message(message: bytes) -> Iterator[Notice]:
    try:
        yield from _decode(message)
    except DECODE_ERRORS:
        return
