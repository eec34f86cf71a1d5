"""A whole fleet from one process: servers, topics, and all roles, for as long as a block lasts."""

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp

from eventfleet.embedded_servers import (
    ManagedProcess,
    ProgramFailed,
    free_port,
    start_process,
    started,
)
from eventfleet.model.domain import Domain
from eventfleet.runtime import connections
from eventfleet.runtime.http_server import SERVING_LOG_LINE
from eventfleet.runtime.settings import Settings, variable
from eventfleet.stores.errors import Misconfigured
from eventfleet.topics.topic_specs import TopicSpec

ROLES = ("append", "command", "snapshot", "relay")
GRACE = 30.0
READY = 60.0

T = TypeVar("T")


@dataclass(frozen=True)
class LocalFleet:
    """A running fleet. `variables`: what another process needs in its environment to use it."""

    settings: Settings
    domains: dict[str, Domain[Any]]
    variables: dict[str, str]
    workers: ManagedProcess
    service: ManagedProcess
    servers: list[ManagedProcess]

    @property
    def page(self) -> str:
        return f"http://{self.settings.host}:{self.settings.port}"

    @property
    def url(self) -> str:
        """Of the HTTP service; empty until it says so."""
        told = SERVING_LOG_LINE.search(self.service.log.read_text(errors="replace"))
        return told[1] if told else ""

    def page_of(self, program: ManagedProcess) -> str:
        """Where it says that it is ready."""
        return f"{self.url if program is self.service else self.page}/ready"

    async def failure(self) -> ProgramFailed:
        """Wait until one of the programs ends by itself."""
        programs = [self.workers, self.service, *self.servers]
        ends = [asyncio.create_task(program.ended()) for program in programs]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            program, status = next(
                (p, e.result()) for p, e in zip(programs, ends, strict=True) if e.done()
            )
        finally:
            for end in ends:
                end.cancel()
        return program.failed(f"ended with status {status}")

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """The work's result; ProgramFailed as soon as one of the programs ends by itself."""
        task, failure = asyncio.create_task(work), asyncio.create_task(self.failure())
        try:
            await asyncio.wait({task, failure}, return_when=asyncio.FIRST_COMPLETED)
            if failure.done():
                raise failure.result()
            return task.result()
        finally:
            task.cancel()
            failure.cancel()
            await asyncio.gather(task, failure, return_exceptions=True)


@asynccontextmanager
async def running(asked: Settings, names: Iterable[str]) -> AsyncIterator[LocalFleet]:
    """Start what the settings don't name, make the topics, run all roles of these domains.

    All domains, when none is named.
    """
    async with started(asked) as (settings, servers):
        domains = connections.chosen(settings, names)
        embedded = settings.kafka_brokers != asked.kafka_brokers
        await _topics(settings, domains.values(), with_routes=embedded)
        variables = _changed(asked, settings)
        if "port" not in settings.model_fields_set:
            settings = settings.model_copy(update={"port": free_port()})
        only = [f"--domain={name}" for name in domains]
        environment = _changed(asked, settings)
        environment[variable("http_port")] = str(settings.http_port)
        serve = ["serve", *domains]
        if "http_port" not in settings.model_fields_set:
            serve.append("--or-any")
        async with (
            _kept("the workers", ["worker", *ROLES, *only], environment) as workers,
            _kept("the HTTP service", serve, environment) as service,
        ):
            yield LocalFleet(settings, domains, variables, workers, service, servers)


def _kept(
    name: str, arguments: list[str], environment: dict[str, str]
) -> AbstractAsyncContextManager[ManagedProcess]:
    command = [sys.executable, "-m", "eventfleet.cli", *arguments]
    return start_process(name, lambda folder: command, environment, GRACE)


def _changed(asked: Settings, settings: Settings) -> dict[str, str]:
    return {variable(name): str(value) for name, value in settings if value != getattr(asked, name)}


async def _topics(settings: Settings, domains: Iterable[Domain[Any]], with_routes: bool) -> None:
    """Topics of routes belong to others; where there are no others, they are made too."""
    specs = [spec for domain in domains for spec in connections.topics_of(settings, domain)]
    routes = {route.to for domain in domains for route in domain.routes} if with_routes else set()
    others = [TopicSpec(name, settings.partitions, settings.replication) for name in sorted(routes)]
    async with connections.log_admin(settings) as admin:
        await admin.create([*specs, *others])
        differences = await admin.check(specs)
    if differences:
        raise Misconfigured("\n".join(differences))


async def ready(fleet: LocalFleet) -> None:
    """Wait until workers and service say that they are. ProgramFailed when they don't in time."""
    deadline = asyncio.get_running_loop().time() + READY
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        for program in (fleet.workers, fleet.service):
            while not await _says_ready(session, fleet.page_of(program)):
                if asyncio.get_running_loop().time() > deadline:
                    raise program.failed(f"not ready within {READY:.0f} seconds")
                await asyncio.sleep(0.2)


async def _says_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
