"""A fleet's servers: Kafka, MongoDB and Redis."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

from eventfleet.runtime.backend import ServerCheck, ServerNames
from eventfleet.runtime.errors import ServerRefused, Unreachable
from eventfleet.runtime.settings import Settings
from eventfleet.stores.contracts import (
    Channels,
    LogAdmin,
    LogFollower,
    LogReader,
    LogWriter,
    Markers,
    Notices,
    PartitionWriter,
    StoresByDomain,
)
from eventfleet.stores.errors import AccessRefused, HungUp, ServerUnavailable
from eventfleet.stores.kafka.admin import Admin
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.follower import Follower
from eventfleet.stores.kafka.producer import Producer
from eventfleet.stores.kafka.reader import Reader
from eventfleet.stores.kafka.transactional_writer import TransactionalWriter
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.mongo import open_stores
from eventfleet.stores.redis import RedisChannels, RedisMarkers, RedisNotices

CHECK_TIMEOUT_SECONDS = 10.0
CHECK_REQUEST_SECONDS = 6.0
NOTICE_TIMEOUT_SECONDS = 1.0
LIBRARIES = ("aiokafka", "kafka", "pymongo", "motor", "faust", "mode")
_HOSTS = re.compile(r"^.*?//(?:.*@)?([^/?]*).*$", re.DOTALL)
logger = logging.getLogger(__name__)


class ServerBackend:
    """Kafka, MongoDB and Redis. Without `long_reads` a long read blocks the event loop."""

    names = ServerNames("Kafka", "MongoDB", "Redis")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        yield

    # Checks

    def checks(self, *, markers: bool) -> Sequence[ServerCheck]:
        settings = self._settings
        mongo, redis = server_address(settings.mongo_url), server_address(settings.redis_url)
        return [
            ServerCheck("Kafka", settings.kafka_brokers, self.check_log),
            ServerCheck("MongoDB", mongo, self.check_stores),
            ServerCheck("Redis", redis, self.check_markers, markers),
        ]

    async def check_log(self) -> None:
        seconds = min(self._settings.kafka_timeout, CHECK_REQUEST_SECONDS)
        quick = replace(self.connection(), timeout=seconds)
        where = "Kafka", self._settings.kafka_brokers, "kafka_brokers"
        await _require_answer(Admin(quick).check([]), *where)

    async def check_stores(self) -> None:
        seconds = min(self._settings.mongo_timeout, CHECK_REQUEST_SECONDS)
        async with self._stores(["any"], seconds) as opened:
            where = "MongoDB", server_address(self._settings.mongo_url), "mongo_url"
            await _require_answer(opened["any"].events.registry.epoch(), *where)

    async def check_markers(self) -> None:
        seconds = min(self._settings.redis_timeout, CHECK_REQUEST_SECONDS)
        markers = self._markers("any", seconds)
        address = server_address(self._settings.redis_url)
        try:
            await _require_answer(markers.prepare(), "Redis", address, "redis_url")
        finally:
            await markers.close()

    # The log

    def connection(self) -> Connection:
        """How clients connect to Kafka."""
        settings = self._settings
        return Connection(
            settings.kafka_brokers,
            settings.kafka_security,
            settings.kafka_sasl_mechanism,
            settings.kafka_username,
            settings.kafka_password,
            settings.kafka_ca_file,
            settings.kafka_cert_file,
            settings.kafka_key_file,
            settings.kafka_timeout,
            settings.kafka_metadata_age,
        )

    def admin(self) -> LogAdmin:
        return Admin(self.connection())

    def reader(self) -> LogReader:
        return Reader(self.connection())

    def writer(self, timeout: float | None = None) -> LogWriter:
        connection = self.connection()
        seconds = connection.timeout if timeout is None else min(connection.timeout, timeout)
        return Producer(replace(connection, timeout=seconds))

    def partition_writer(self, group: str, topic: str, partition: int) -> PartitionWriter:
        return TransactionalWriter(self.connection(), group, topic, partition)

    def follower(self, wait_seconds: float) -> LogFollower:
        return Follower(self.connection(), wait_seconds)

    # The stores

    def stores(
        self, domains: Iterable[str], *, long_reads: bool
    ) -> AbstractAsyncContextManager[StoresByDomain]:
        return self._stores(domains, self._settings.mongo_timeout, long_reads)

    def publishing_events(self, domain: str, topic: str) -> None:
        return None

    def _stores(
        self, domains: Iterable[str], timeout: float, long_reads: bool = False
    ) -> AbstractAsyncContextManager[StoresByDomain]:
        return open_stores(
            self._settings.mongo_url,
            self._settings.mongo_database,
            domains,
            timeout=timeout,
            snapshots_kept=self._settings.snapshots_kept,
            threads=long_reads,
        )

    # Markers, notices and channels

    def markers(self, domain: str) -> Markers:
        return self._markers(domain, self._settings.redis_timeout)

    def _markers(self, domain: str, timeout: float) -> Markers:
        settings = self._settings
        terms = MarkerTimeouts(settings.marker_expiry, settings.marker_lease, settings.id_memory)
        url, prefix = settings.redis_url, settings.topic_prefix
        return RedisMarkers(url, domain, terms, timeout=timeout, prefix=prefix)

    def notices(self) -> Notices:
        settings, timeout = self._settings, self._notice_timeout
        return RedisNotices(settings.redis_url, timeout=timeout, prefix=settings.topic_prefix)

    def channels(self) -> Channels:
        settings, timeout = self._settings, self._notice_timeout
        return RedisChannels(settings.redis_url, timeout=timeout, prefix=settings.topic_prefix)

    @property
    def _notice_timeout(self) -> float:
        return min(self._settings.redis_timeout, NOTICE_TIMEOUT_SECONDS)


def server_address(url: str) -> str:
    """The hosts and ports of a URL, without credentials and options."""
    return _HOSTS.sub(r"\1", url)


async def _require_answer(request: Awaitable[Any], server: str, address: str, setting: str) -> None:
    """Raise an error that names the setting, within CHECK_TIMEOUT_SECONDS.

    Unreachable: the server does not answer; ServerRefused: it does not let this process in.
    """
    silence_libraries()
    started = time.monotonic()
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await request
    except AccessRefused as error:
        raise ServerRefused(server, address, setting, error) from error
    except (ServerUnavailable, TimeoutError) as error:
        hung_up = isinstance(error, HungUp)
        raise Unreachable(server, address, setting, str(error), hung_up=hung_up) from error
    milliseconds = (time.monotonic() - started) * 1000
    logger.debug("%s answers at %s after %.0f ms", server, address, milliseconds)


def silence_libraries() -> None:
    """Keep client libraries' logs off the screen, unless debug messages are wanted.

    Errors that matter are raised.
    """
    if logger.isEnabledFor(logging.DEBUG):
        return
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.propagate = False
        if not library.handlers:
            library.addHandler(logging.NullHandler())
