"""Opens buses by the URL of their server, for the command line."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from eventfleet.buses.bus import EventBus
from eventfleet.stores.errors import Misconfigured, ServerUnavailable
from eventfleet.stores.redis.errors import translate_errors

CONNECT_SECONDS = 10.0


@asynccontextmanager
async def open_bus(url: str, channel: str) -> AsyncIterator[EventBus]:
    """Open the RedisBus or the NatsBus of a channel or stream, without starting it.

    Misconfigured: the URL is of neither. ServerUnavailable.
    """
    scheme = urlsplit(url).scheme
    if scheme in ("redis", "rediss", "unix"):
        from redis.asyncio import Redis

        from eventfleet.buses.redis_bus import RedisBus

        with translate_errors(f"channel {channel}", CONNECT_SECONDS):
            client = Redis.from_url(url)
        async with client:
            yield RedisBus(client, channel)
    elif scheme in ("nats", "tls"):
        import nats

        from eventfleet.buses.nats_bus import NatsBus

        try:
            connection = await nats.connect(
                url, connect_timeout=CONNECT_SECONDS, max_reconnect_attempts=0
            )
        except (OSError, nats.errors.Error) as error:
            raise ServerUnavailable(f"NATS does not answer: {error}") from None
        async with connection:
            yield NatsBus(connection, channel)
    else:
        raise Misconfigured(f"the bus's URL must begin with redis:// or nats://, not {scheme!r}")
