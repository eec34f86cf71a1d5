"""Opens what the settings name: domains, the log, stores, markers, notices and channels."""

import asyncio
import logging
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from eventfleet.domains.process_log import process_log, with_rules
from eventfleet.log_files import directly_follows
from eventfleet.model.domain import Domain
from eventfleet.model.errors import DeclarationError
from eventfleet.model.payloads import State
from eventfleet.model.registry import find_domains
from eventfleet.runtime.errors import (
    NoDomains,
    ServerRefused,
    UnknownDomain,
    Unreachable,
)
from eventfleet.runtime.settings import Settings, SettingsError, split, variable
from eventfleet.stores.contracts import (
    Channels,
    DeadLetterStore,
    LogAdmin,
    LogFollower,
    LogReader,
    LogWriter,
    Markers,
    Notices,
    StoresByDomain,
)
from eventfleet.stores.errors import (
    AccessRefused,
    HungUp,
    Misconfigured,
    ServerUnavailable,
)
from eventfleet.stores.kafka.admin import Admin
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.follower import Follower
from eventfleet.stores.kafka.producer import Producer
from eventfleet.stores.kafka.reader import Reader
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.mongo import open_stores
from eventfleet.stores.redis import RedisChannels, RedisMarkers, RedisNotices
from eventfleet.topics.topic_specs import TopicSpec, declare_topics

HOUR_MS = 3_600_000
CHECK_TIMEOUT_SECONDS = 10.0
CHECK_REQUEST_SECONDS = 6.0
NOTICE_TIMEOUT_SECONDS = 1.0
CREATE_TOPICS_HINT = "`eventfleet topics create` creates missing topics"
_HOSTS = re.compile(r"^.*?//(?:.*@)?([^/?]*).*$", re.DOTALL)
C = TypeVar("C", Admin, Reader, Producer)
S = TypeVar("S", bound=State)
logger = logging.getLogger(__name__)
LIBRARIES = ("aiokafka", "kafka", "pymongo", "motor", "faust", "mode")


# Domains and topics


def select_domains(
    settings: Settings, names: Iterable[str] | None = None
) -> dict[str, Domain[Any]]:
    """Import the domains of these names, or all that the settings name where it is None.

    NoDomains without the setting `domains`; UnknownDomain for a name that no module declares;
    DeclarationError for a module that can't be imported; SettingsError: see `prefixed`.
    """
    if not settings.domains:
        raise NoDomains()
    # An installed command does not find modules in the working folder by itself.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    known = find_domains(split(settings.domains))
    if settings.rules and known.get(process_log.name) is process_log:
        known[process_log.name] = with_rules(
            process_log, directly_follows.read_rules(settings.rules)
        )
    chosen = known if names is None else dict.fromkeys(names)
    for name in chosen:
        if name not in known:
            raise UnknownDomain(name, known)
    return {name: prefixed(settings, known[name]) for name in chosen}


def prefixed(settings: Settings, domain: Domain[S]) -> Domain[S]:
    """Return the domain with the settings' topic prefix.

    SettingsError: the name of a route's topic is too long then.
    """
    try:
        return domain.with_topic_prefix(settings.topic_prefix)
    except DeclarationError as error:
        raise SettingsError(f"{variable('topic_prefix')}: {error}") from error


def topics_of(settings: Settings, domain: Domain[Any]) -> list[TopicSpec]:
    """The topics of a domain, with the partitions, replicas and retention of the settings."""
    hours = settings.retention_hours
    retention_ms = hours if hours < 0 else hours * HOUR_MS
    return declare_topics(domain.topics, settings.partitions, settings.replication, retention_ms)


def routes_of(settings: Settings, domain: Domain[Any]) -> list[TopicSpec]:
    """The topics that routes write to; their owners set them up, so our retention is not theirs."""
    return [TopicSpec(name, settings.partitions, settings.replication) for name in domain.targets]


async def find_missing_topics(reader: LogReader, specs: Iterable[TopicSpec]) -> list[TopicSpec]:
    """Find the topics that do not exist."""
    return [spec for spec in specs if not await reader.partition_count(spec.name)]


async def create_missing_topics(
    admin: LogAdmin, reader: LogReader, specs: Iterable[TopicSpec]
) -> list[str]:
    """Create the topics that do not exist, and return their names.

    Misconfigured: Kafka does not let this user create one.
    """
    unique = {spec.name: spec for spec in specs}
    missing = await find_missing_topics(reader, unique.values())
    try:
        return await admin.create(missing) if missing else []
    except Misconfigured as error:
        names = ", ".join(spec.name for spec in missing)
        raise Misconfigured(
            f"{error}. Missing topics: {names}. Let this user create them, or have them created "
            "by whoever may"
        ) from error


async def require_topics(reader: LogReader, specs: Iterable[TopicSpec]) -> None:
    """Raise Misconfigured, naming the topics that do not exist."""
    lines = [
        f"topic {spec.name} does not exist" for spec in await find_missing_topics(reader, specs)
    ]
    if lines:
        raise Misconfigured("\n".join([*lines, CREATE_TOPICS_HINT]))


async def check_topics(
    settings: Settings,
    domains: Iterable[Domain[Any]],
    admin: LogAdmin,
    counts: Mapping[str, int] | None = None,
) -> None:
    """Raise Misconfigured, naming each topic that is missing or differs from its declaration.

    `counts` are the partitions of topics that may have more than declared.
    """
    specs = [spec for domain in domains for spec in topics_of(settings, domain)]
    if counts:
        specs = [replace(spec, partitions=counts[spec.name] or spec.partitions) for spec in specs]
    differences = await admin.check(specs)
    if differences:
        raise Misconfigured("\n".join([*differences, CREATE_TOPICS_HINT]))


# The log


def connection(settings: Settings) -> Connection:
    """How clients connect to Kafka."""
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


def log_admin(settings: Settings) -> AbstractAsyncContextManager[LogAdmin]:
    return _on_kafka(settings, Admin)


def log_reader(settings: Settings) -> AbstractAsyncContextManager[LogReader]:
    return _on_kafka(settings, Reader)


def log_writer(settings: Settings) -> AbstractAsyncContextManager[LogWriter]:
    return _on_kafka(settings, Producer)


@asynccontextmanager
async def _on_kafka(settings: Settings, make: Callable[[Connection], C]) -> AsyncIterator[C]:
    await check_kafka(settings)
    client = make(connection(settings))
    try:
        yield client
    finally:
        await client.close()


async def check_kafka(settings: Settings) -> None:
    """Raise Unreachable where Kafka does not answer within seconds; ServerRefused by it."""
    quick = replace(
        connection(settings), timeout=min(settings.kafka_timeout, CHECK_REQUEST_SECONDS)
    )
    where = "Kafka", settings.kafka_brokers, "kafka_brokers"
    await _require_answer(Admin(quick).check([]), *where)


# The stores


@asynccontextmanager
async def stores(
    settings: Settings, domains: Mapping[str, Domain[Any]], *, long_reads: bool = False
) -> AsyncIterator[StoresByDomain]:
    """Open the stores of these domains, by name; indexes are neither created nor verified.

    With `long_reads` a long read does not block the event loop.
    """
    await check_mongo(settings)
    async with _stores(settings, domains, settings.mongo_timeout, long_reads) as opened:
        yield opened


@asynccontextmanager
async def dead_letters(settings: Settings, name: str) -> AsyncIterator[DeadLetterStore]:
    """Open the dead letters of a domain, or of a collection of documents."""
    await check_mongo(settings)
    async with _stores(settings, [name], settings.mongo_timeout) as opened:
        letters = opened[name].dead_letters
        assert letters is not None
        yield letters


def _stores(
    settings: Settings, domains: Iterable[str], timeout: float, long_reads: bool = False
) -> AbstractAsyncContextManager[StoresByDomain]:
    return open_stores(
        settings.mongo_url,
        settings.mongo_database,
        domains,
        timeout=timeout,
        snapshots_kept=settings.snapshots_kept,
        threads=long_reads,
    )


async def check_mongo(settings: Settings) -> None:
    """Raise Unreachable where MongoDB does not answer within seconds."""
    quick = min(settings.mongo_timeout, CHECK_REQUEST_SECONDS)
    async with _stores(settings, ["any"], quick) as opened:
        where = "MongoDB", server_address(settings.mongo_url), "mongo_url"
        await _require_answer(opened["any"].events.registry.epoch(), *where)


# Redis: markers and notices


@asynccontextmanager
async def markers(settings: Settings, domain: str) -> AsyncIterator[Markers]:
    """Open the markers of a domain. Misconfigured where Redis may lose markers as it is set up."""
    await check_redis(settings)
    opened = _markers(settings, domain, settings.redis_timeout)
    try:
        yield opened
    finally:
        await opened.close()


def _markers(settings: Settings, domain: str, timeout: float) -> Markers:
    terms = MarkerTimeouts(settings.marker_expiry, settings.marker_lease, settings.id_memory)
    url, prefix = settings.redis_url, settings.topic_prefix
    return RedisMarkers(url, domain, terms, timeout=timeout, prefix=prefix)


def notices(settings: Settings) -> Notices:
    """Make the notices of stages; they connect to Redis at the first call, so not without need."""
    timeout = min(settings.redis_timeout, NOTICE_TIMEOUT_SECONDS)
    return RedisNotices(settings.redis_url, timeout=timeout, prefix=settings.topic_prefix)


def channels(settings: Settings) -> Channels:
    """Make the channels between processes; they connect to Redis at the first call."""
    timeout = min(settings.redis_timeout, NOTICE_TIMEOUT_SECONDS)
    return RedisChannels(settings.redis_url, timeout=timeout, prefix=settings.topic_prefix)


def log_follower(settings: Settings, wait_seconds: float = 0.0) -> LogFollower:
    """Make the follower of topics; it connects to Kafka when it follows one.

    Records may wait `wait_seconds` for others, to be fetched together.
    """
    return Follower(connection(settings), wait_seconds)


async def check_redis(settings: Settings) -> None:
    """Raise Unreachable where Redis does not answer; Misconfigured where it may lose markers."""
    markers = _markers(settings, "any", min(settings.redis_timeout, CHECK_REQUEST_SECONDS))
    address = server_address(settings.redis_url)
    try:
        await _require_answer(markers.prepare(), "Redis", address, "redis_url")
    finally:
        await markers.close()


# Reaching servers


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
