"""The one place that makes things from the settings: domains, stores, the log."""

import asyncio
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from eventfleet.domains.process_log import process_log, with_rules
from eventfleet.log_files import directly_follows
from eventfleet.model.domain import Domain
from eventfleet.model.registry import find_domains
from eventfleet.runtime.errors import UnknownDomain, Unreachable
from eventfleet.runtime.settings import Settings, split
from eventfleet.stores.contracts import (
    LogAdmin,
    LogReader,
    LogWriter,
    Markers,
    Notices,
    StoresByDomain,
)
from eventfleet.stores.errors import Misconfigured, ServerUnavailable
from eventfleet.stores.kafka.admin import Admin
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import Producer
from eventfleet.stores.kafka.reader import Reader
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.mongo import open_stores
from eventfleet.stores.redis import RedisMarkers, RedisNotices
from eventfleet.topics.topic_specs import TopicSpec, declare_topics

HOUR_MS = 3_600_000
START_SECONDS = 10.0
ANSWER_SECONDS = 6.0
NOTICE_SECONDS = 1.0
MAKE_TOPICS = "`eventfleet topics create` makes absent topics"
_HOSTS = re.compile(r"^.*?//(?:.*@)?([^/?]*).*$", re.DOTALL)
C = TypeVar("C", Admin, Reader, Producer)
LIBRARIES = ("aiokafka", "kafka", "pymongo", "motor", "faust", "mode")


# Domains and topics


def chosen(settings: Settings, names: Iterable[str]) -> dict[str, Domain[Any]]:
    """The domains of these names, or all of them where none is named."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    known = find_domains(split(settings.domains))
    if settings.rules and known.get(process_log.name) is process_log:
        known[process_log.name] = with_rules(process_log, directly_follows.read(settings.rules))
    names = list(names)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UnknownDomain(f"no domain {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return {name: known[name] for name in names} or known


def topics_of(settings: Settings, domain: Domain[Any]) -> list[TopicSpec]:
    """The topics of a domain, as the settings want them."""
    hours = settings.retention_hours
    retention_ms = hours if hours < 0 else hours * HOUR_MS
    return declare_topics(domain.name, settings.partitions, settings.replication, retention_ms)


def routes_of(settings: Settings, domain: Domain[Any]) -> list[TopicSpec]:
    """The topics that routes write to. They are others' own, so no setting of theirs is ours."""
    names = sorted({route.to for route in domain.routes})
    return [TopicSpec(name, settings.partitions, settings.replication) for name in names]


async def absent(reader: LogReader, specs: Iterable[TopicSpec]) -> list[TopicSpec]:
    """Those that do not exist."""
    return [spec for spec in specs if not await reader.watermarks(spec.name)]


async def must_exist(reader: LogReader, specs: Iterable[TopicSpec]) -> None:
    """Misconfigured names those that do not exist."""
    lines = [f"topic {spec.name} does not exist" for spec in await absent(reader, specs)]
    if lines:
        raise Misconfigured("\n".join([*lines, MAKE_TOPICS]))


async def check_topics(settings: Settings, domains: Iterable[Domain[Any]], admin: LogAdmin) -> None:
    """Misconfigured names every topic that is absent or not as declared."""
    specs = [spec for domain in domains for spec in topics_of(settings, domain)]
    differences = await admin.check(specs)
    if differences:
        raise Misconfigured("\n".join([*differences, MAKE_TOPICS]))


# The log


def connection(settings: Settings) -> Connection:
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
    )


def log_admin(settings: Settings) -> AbstractAsyncContextManager[LogAdmin]:
    return _on_kafka(settings, Admin)


def log_reader(settings: Settings) -> AbstractAsyncContextManager[LogReader]:
    return _on_kafka(settings, Reader)


def log_writer(settings: Settings) -> AbstractAsyncContextManager[LogWriter]:
    return _on_kafka(settings, Producer)


@asynccontextmanager
async def _on_kafka(settings: Settings, make: Callable[[Connection], C]) -> AsyncIterator[C]:
    await _find_kafka(settings)
    client = make(connection(settings))
    try:
        yield client
    finally:
        await client.close()


async def _find_kafka(settings: Settings) -> None:
    quick = replace(connection(settings), timeout=min(settings.kafka_timeout, ANSWER_SECONDS))
    await _answers(Admin(quick).check([]), "Kafka", settings.kafka_brokers, "kafka_brokers")


# The stores


@asynccontextmanager
async def stores(
    settings: Settings, domains: Mapping[str, Domain[Any]], *, long_reads: bool = False
) -> AsyncIterator[StoresByDomain]:
    """The stores of these domains, by name; their indexes are neither made nor verified.

    Those for long reads let others in the event loop go on meanwhile.
    """
    await _find_mongo(settings)
    async with _stores(settings, domains, settings.mongo_timeout, long_reads) as opened:
        yield opened


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


async def _find_mongo(settings: Settings) -> None:
    where = _HOSTS.sub(r"\1", settings.mongo_url)
    quick = min(settings.mongo_timeout, ANSWER_SECONDS)
    async with _stores(settings, ["orders"], quick) as opened:
        await _answers(opened["orders"].events.epoch(), "MongoDB", where, "mongo_url")


# Redis: markers and notices


@asynccontextmanager
async def markers(settings: Settings, domain: str) -> AsyncIterator[Markers]:
    """The markers of a domain. Misconfigured where the Redis is not fit for them."""
    await _find_redis(settings)
    opened = _markers(settings, domain, settings.redis_timeout)
    try:
        yield opened
    finally:
        await opened.close()


def _markers(settings: Settings, domain: str, timeout: float) -> Markers:
    terms = MarkerTimeouts(settings.marker_expiry, settings.marker_lease, settings.id_memory)
    return RedisMarkers(settings.redis_url, domain, terms, timeout=timeout)


def notices(settings: Settings) -> Notices:
    """Connects at the first call only: who tells nobody and waits for nothing needs no Redis."""
    return RedisNotices(settings.redis_url, timeout=min(settings.redis_timeout, NOTICE_SECONDS))


async def _find_redis(settings: Settings) -> None:
    where = _HOSTS.sub(r"\1", settings.redis_url)
    found = _markers(settings, "any", min(settings.redis_timeout, ANSWER_SECONDS))
    try:
        await _answers(found.prepare(), "Redis", where, "redis_url")
    finally:
        await found.close()


# Finding servers


class _LastWord(logging.Handler):
    """Keeps what a library said last: often the reason that its error does not give."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


async def _answers(asking: Awaitable[Any], server: str, where: str, setting: str) -> None:
    """Unreachable, within seconds, where the server does not answer."""
    hush()
    last = _LastWord()
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    for logger in loggers:
        logger.addHandler(last)
    try:
        async with asyncio.timeout(START_SECONDS):
            await asking
    except (ServerUnavailable, TimeoutError) as error:
        raise Unreachable(server, where, setting, last.text or str(error)) from error
    finally:
        for logger in loggers:
            logger.removeHandler(last)


def hush() -> None:
    """Keep what libraries log off the screen: the errors that matter are raised."""
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
