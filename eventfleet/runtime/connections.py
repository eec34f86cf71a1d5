"""Opens what the settings name: domains, the log, stores and markers."""

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from eventfleet.domains.process_log import process_log, with_rules
from eventfleet.log_files import directly_follows
from eventfleet.model.domain import Domain
from eventfleet.model.errors import DeclarationError
from eventfleet.model.payloads import State
from eventfleet.model.registry import find_domains
from eventfleet.runtime.backend import Backend
from eventfleet.runtime.errors import NoDomains, UnknownDomain
from eventfleet.runtime.file_backend import FileBackend
from eventfleet.runtime.server_backend import ServerBackend
from eventfleet.runtime.settings import Settings, SettingsError, split, variable
from eventfleet.stores.contracts import (
    DeadLetterStore,
    LogAdmin,
    LogReader,
    LogWriter,
    Markers,
    StoresByDomain,
)
from eventfleet.stores.errors import Misconfigured
from eventfleet.topics.topic_specs import TopicSpec, declare_topics

HOUR_MS = 3_600_000
CREATE_TOPICS_HINT = "`eventfleet topics create` creates missing topics"
C = TypeVar("C", LogAdmin, LogReader, LogWriter)
S = TypeVar("S", bound=State)


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


async def create_topics(settings: Settings, domains: Iterable[Domain[Any]]) -> None:
    """Create the missing topics of the domains and of their routes, and check the domains' own."""
    domains = list(domains)
    specs = [spec for domain in domains for spec in topics_of(settings, domain)]
    routes = [spec for domain in domains for spec in routes_of(settings, domain)]
    async with log_admin(settings) as admin, log_reader(settings) as reader:
        await create_missing_topics(admin, reader, [*specs, *routes])
        differences = await admin.check(specs)
    if differences:
        raise Misconfigured("\n".join(differences))


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


# What the settings name to keep a fleet


def backend(settings: Settings) -> Backend:
    """The fleet's file where the settings name a folder for it, else its servers."""
    return FileBackend(settings) if settings.data else ServerBackend(settings)


def opened(settings: Settings) -> AbstractAsyncContextManager[None]:
    """Hold what a process of many parts shares. Misconfigured: it can't be had."""
    return backend(settings).opened()


def log_admin(settings: Settings) -> AbstractAsyncContextManager[LogAdmin]:
    return _on_log(settings, lambda opened: opened.admin())


def log_reader(settings: Settings) -> AbstractAsyncContextManager[LogReader]:
    return _on_log(settings, lambda opened: opened.reader())


def log_writer(settings: Settings) -> AbstractAsyncContextManager[LogWriter]:
    return _on_log(settings, lambda opened: opened.writer())


@asynccontextmanager
async def _on_log(settings: Settings, make: Callable[[Backend], C]) -> AsyncIterator[C]:
    opened = backend(settings)
    async with opened.opened():
        await opened.check_log()
        client = make(opened)
        try:
            yield client
        finally:
            await client.close()


@asynccontextmanager
async def stores(
    settings: Settings, domains: Iterable[str], *, long_reads: bool = False
) -> AsyncIterator[StoresByDomain]:
    """Open the stores of these domains, by name; indexes are neither created nor verified.

    With `long_reads` a long read does not block the event loop.
    """
    opened = backend(settings)
    async with opened.opened():
        await opened.check_stores()
        async with opened.stores(domains, long_reads=long_reads) as found:
            yield found


@asynccontextmanager
async def dead_letters(settings: Settings, name: str) -> AsyncIterator[DeadLetterStore]:
    """Open the dead letters of a domain, or of a collection of documents."""
    async with stores(settings, [name]) as found:
        letters = found[name].dead_letters
        assert letters is not None
        yield letters


@asynccontextmanager
async def markers(settings: Settings, domain: str) -> AsyncIterator[Markers]:
    """Open the markers of a domain. Misconfigured where they may be lost."""
    opened = backend(settings)
    async with opened.opened():
        await opened.check_markers()
        found = opened.markers(domain)
        try:
            yield found
        finally:
            await found.close()
