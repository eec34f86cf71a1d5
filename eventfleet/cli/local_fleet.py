"""A whole fleet from one process: servers, topics, all roles and the HTTP service."""

import asyncio
import logging
import math
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from eventfleet.embedded_servers import (
    ManagedProcess,
    ProgramFailed,
    free_port,
    start_process,
    start_servers,
)
from eventfleet.model.domain import Domain
from eventfleet.runtime import connections
from eventfleet.runtime.server_wait import StartLimit
from eventfleet.runtime.settings import Settings, variable
from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.readiness_report import READY, ReadinessReason, read_reasons
from eventfleet.topics.errors import EventfleetError

SAMPLE_DOMAINS = ",".join(
    f"eventfleet.domains.{name}"
    for name in ("orders", "bank", "trading", "cart", "game", "process_log")
)
ROLES = ("append", "command", "snapshot", "relay", "project")
STOP_GRACE_SECONDS = 30.0
POLL_SECONDS = 0.2
PROBE_TIMEOUT_SECONDS = 2.0
WATCH_SECONDS = 1.0
URL_FILE = "url"
"""File in the folder of the HTTP service's process."""

T = TypeVar("T")


class PartitionsStopped(EventfleetError):
    """Faults have stopped roles at partitions; the lines name each."""


@dataclass(frozen=True)
class LocalFleet:
    """A running fleet."""

    settings: Settings
    domains: dict[str, Domain[Any]]
    workers: ManagedProcess
    service: ManagedProcess
    servers: list[ManagedProcess]

    @property
    def processes(self) -> list[ManagedProcess]:
        return [self.workers, self.service, *self.servers]

    @property
    def metrics_url(self) -> str:
        return f"http://{self.settings.metrics_host}:{self.settings.metrics_port}"

    @property
    def service_url(self) -> str:
        """URL of the HTTP service; empty until it serves."""
        with suppress(FileNotFoundError):
            url, newline, _ = (self.service.folder / URL_FILE).read_text().partition("\n")
            return url if newline else ""
        return ""

    def ready_url(self, process: ManagedProcess) -> str:
        """The URL at which the process reports that it is ready."""
        return f"{self.service_url if process is self.service else self.metrics_url}/ready"

    async def wait_for_failure(self) -> ProgramFailed:
        """Wait until one of the processes ends by itself."""
        processes = self.processes
        waiting = [asyncio.create_task(process.wait()) for process in processes]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            process, status = next(
                (p, w.result()) for p, w in zip(processes, waiting, strict=True) if w.done()
            )
        finally:
            for task in waiting:
                task.cancel()
        return process.failure(f"ended with status {status}")

    async def supervise(self, work: Coroutine[Any, Any, T], *, through_faults: bool = False) -> T:
        """The work's result; ProgramFailed as soon as one of the processes ends by itself.

        PartitionsStopped as soon as a fault stops a partition, unless the work goes on then.
        """
        task = asyncio.create_task(work)
        ends: set[asyncio.Task[Any]] = {asyncio.create_task(self.wait_for_failure())}
        if not through_faults:
            ends.add(asyncio.create_task(self.wait_for_fault()))
        try:
            await asyncio.wait({task, *ends}, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                if end.done():
                    raise end.result()
            return task.result()
        finally:
            for each in (task, *ends):
                each.cancel()
            await asyncio.gather(task, *ends, return_exceptions=True)

    async def watch_faults(self) -> AsyncGenerator[str]:
        """The reason of each partition that a fault stops, once, from now on for ever."""
        seen: set[str] = set()
        async with _probe_session() as session:
            while True:
                _, reasons = await _probe(session, self.ready_url(self.workers))
                for each in reasons:
                    if each.kind == "stopped" and each.reason not in seen:
                        seen.add(each.reason)
                        yield each.reason
                await asyncio.sleep(WATCH_SECONDS)

    async def wait_for_fault(self) -> PartitionsStopped:
        """Wait until a fault has stopped a partition."""
        async with aclosing(self.watch_faults()) as faults:
            fault = await anext(faults)
        tail = self.workers.tail()
        return PartitionsStopped(f"{fault}\n{self.workers.name}'s output ends with:\n{tail}")


@asynccontextmanager
async def start_fleet(given: Settings, names: Iterable[str]) -> AsyncIterator[LocalFleet]:
    """Start the servers that the settings don't name, create the topics, run all roles.

    Of the domains of these names, or of all that the settings name; of the sample domains where
    the settings name none.
    """
    async with start_servers(with_domains(given)) as (settings, servers):
        domains = connections.select_domains(settings, names or None)
        limit = StartLimit(settings)
        await limit.retry(_create_topics, settings, domains.values())
        if "metrics_port" not in settings.model_fields_set or not settings.metrics_port:
            settings = settings.model_copy(update={"metrics_port": free_port()})
        environment = _changed_variables(given, settings)
        environment[variable("http_port")] = str(settings.http_port)
        only = [f"--domain={name}" for name in domains]
        or_any = ["--or-any"] * ("http_port" not in settings.model_fields_set)

        def work(folder: Path) -> list[str]:
            return ["worker", *ROLES, *only]

        def serve(folder: Path) -> list[str]:
            return ["serve", *domains, *or_any, f"--url-file={folder / URL_FILE}"]

        async with (
            _start_command("the worker process", work, environment) as workers,
            _start_command("the HTTP service", serve, environment) as service,
        ):
            try:
                yield LocalFleet(settings, domains, workers, service, servers)
            finally:  # side by side, as each may wait for servers that are away
                workers.request_end()
                service.request_end()


def with_domains(settings: Settings) -> Settings:
    """The settings, with the sample domains where these name none."""
    return settings.model_copy(update={"domains": settings.domains or SAMPLE_DOMAINS})


def _start_command(
    name: str, arguments: Callable[[Path], list[str]], environment: dict[str, str]
) -> AbstractAsyncContextManager[ManagedProcess]:
    """Start a command; `arguments` takes the folder of its process."""
    verbose = ["--verbose"] if logging.getLogger("eventfleet").isEnabledFor(logging.DEBUG) else []
    command = [sys.executable, "-m", "eventfleet.cli", *verbose]
    return start_process(
        name, lambda folder: [*command, *arguments(folder)], environment, STOP_GRACE_SECONDS
    )


def _changed_variables(given: Settings, settings: Settings) -> dict[str, str]:
    return {variable(name): str(value) for name, value in settings if value != getattr(given, name)}


async def _create_topics(settings: Settings, domains: Iterable[Domain[Any]]) -> None:
    """Create the missing topics of the domains and of their routes, and check the domains' own."""
    domains = list(domains)
    specs = [spec for domain in domains for spec in connections.topics_of(settings, domain)]
    routes = [spec for domain in domains for spec in connections.routes_of(settings, domain)]
    async with connections.log_admin(settings) as admin, connections.log_reader(settings) as reader:
        await connections.create_missing_topics(admin, reader, [*specs, *routes])
        differences = await admin.check(specs)
    if differences:
        raise Misconfigured("\n".join(differences))


async def wait_until_ready(fleet: LocalFleet) -> None:
    """Wait until workers and service are ready.

    ProgramFailed where nothing more gets ready for as long as a start may take. Workers are ready,
    too, where only stopped partitions are not: others do their work.
    """
    seconds = fleet.settings.start_timeout
    async with _probe_session() as session:
        for process in (fleet.workers, fleet.service):
            fewest, moved = math.inf, time.monotonic()
            while waiting := await _count_waiting(session, fleet.ready_url(process)):
                if waiting < fewest:
                    fewest, moved = waiting, time.monotonic()
                elif time.monotonic() > moved + seconds:
                    limit = variable("start_timeout")
                    raise process.failure(f"was not ready within {seconds:g} seconds ({limit})")
                await asyncio.sleep(POLL_SECONDS)


async def _count_waiting(session: aiohttp.ClientSession, url: str) -> float:
    """Count what a process waits for before it is ready; infinite where it does not answer."""
    status, reasons = await _probe(session, url)
    if status == READY:
        return 0
    blocking = [each for each in reasons if each.blocking]
    return sum(each.kind != "stopped" for each in blocking) if blocking else math.inf


def _probe_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PROBE_TIMEOUT_SECONDS))


async def _probe(session: aiohttp.ClientSession, url: str) -> tuple[int, list[ReadinessReason]]:
    """Status and reasons of a page of readiness; status 0 where it does not answer."""
    try:
        async with session.get(url) as answer:
            return answer.status, read_reasons(await answer.read())
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return 0, []
