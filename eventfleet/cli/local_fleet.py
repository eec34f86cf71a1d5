"""A whole fleet on this machine: topics, all roles and the HTTP service."""

import asyncio
import logging
import math
import socket
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aiohttp

from eventfleet.cli.fleet_part import running_part
from eventfleet.cli.logs import logged_to
from eventfleet.cli.managed_process import ManagedProcess, ProgramFailed, start_process
from eventfleet.cli.process_logs import NamedLog
from eventfleet.cli.serve import serve_domains
from eventfleet.model.domain import Domain
from eventfleet.runtime import connections
from eventfleet.runtime.http_server import listening_socket, select_operations, socket_url
from eventfleet.runtime.process_stop import StopSignal
from eventfleet.runtime.server_wait import StartLimit
from eventfleet.runtime.settings import Settings, variable
from eventfleet.stores.readiness_report import READY, ReadinessReason, read_reasons
from eventfleet.topics.errors import EventfleetError
from eventfleet.workers.worker import work_roles

SAMPLE_DOMAINS = ",".join(
    f"eventfleet.domains.{name}"
    for name in ("orders", "bank", "trading", "cart", "game", "process_log")
)
ROLES = ("append", "command", "snapshot", "relay", "project")
STOP_GRACE_SECONDS = 30.0
POLL_SECONDS = 0.2
PROBE_TIMEOUT_SECONDS = 2.0
WATCH_SECONDS = 3.0
URL_FILE = "url"
"""File in the folder of the HTTP service's process."""
LOG_FILE = "fleet.log"
"""File beside the data of a fleet in one process."""

T = TypeVar("T")


class PartitionsStopped(EventfleetError):
    """Faults have stopped roles at partitions; the lines name each."""


class Part(Protocol):
    """The workers or the HTTP service of a fleet: a process, or a part of this one."""

    @property
    def name(self) -> str: ...

    @property
    def log(self) -> Path: ...

    async def wait(self) -> int:
        """Wait until it ends by itself; return its status."""

    def failure(self, what: str) -> ProgramFailed:
        """The error to raise, with what is known of its end."""

    def tail(self) -> str:
        """The last lines of its log."""

    def request_end(self) -> None:
        """Let it end, without waiting for it."""


@dataclass(frozen=True)
class LocalFleet:
    """A running fleet. `kept` says where its data is; `find_url` returns the URL of the HTTP
    service, empty until it serves."""

    settings: Settings
    domains: dict[str, Domain[Any]]
    workers: Part
    service: Part
    find_url: Callable[[], str]
    kept: str

    @property
    def parts(self) -> list[Part]:
        return [self.workers, self.service]

    @property
    def logs(self) -> list[NamedLog]:
        logs = {part.log: NamedLog(part.name, part.log) for part in self.parts}
        return [*logs.values()] if len(logs) > 1 else [NamedLog("the fleet", self.workers.log)]

    @property
    def metrics_url(self) -> str:
        return f"http://{self.settings.metrics_host}:{self.settings.metrics_port}"

    @property
    def service_url(self) -> str:
        """URL of the HTTP service; empty until it serves."""
        return self.find_url()

    def ready_url(self, part: Part) -> str:
        """The URL at which the part reports that it is ready."""
        return f"{self.service_url if part is self.service else self.metrics_url}/ready"

    async def wait_for_failure(self) -> ProgramFailed:
        """Wait until one of the parts ends by itself."""
        parts = self.parts
        waiting = [asyncio.create_task(part.wait()) for part in parts]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            part, status = next(
                (p, w.result()) for p, w in zip(parts, waiting, strict=True) if w.done()
            )
        finally:
            for task in waiting:
                task.cancel()
        return part.failure(f"ended with status {status}")

    async def supervise(self, work: Coroutine[Any, Any, T], *, through_faults: bool = False) -> T:
        """The work's result; ProgramFailed as soon as one of the parts ends by itself.

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
    """Create the topics, run all roles and the HTTP service: in this process on a file, else as two
    processes.

    Of the domains of these names, or of all that the settings name; of the sample domains where
    the settings name none.
    """
    settings = with_domains(given)
    domains = connections.select_domains(settings, names or None)
    async with connections.opened(settings):
        await StartLimit(settings).retry(connections.create_topics, settings, domains.values())
        if "metrics_port" not in settings.model_fields_set or not settings.metrics_port:
            settings = settings.model_copy(update={"metrics_port": free_port()})
        start = _start_parts(settings, domains) if settings.data else None
        async with start or _start_processes(given, settings, domains) as fleet:
            try:
                yield fleet
            finally:  # side by side, as each may wait for servers that are away
                for part in fleet.parts:
                    part.request_end()


@asynccontextmanager
async def _start_parts(
    settings: Settings, domains: dict[str, Domain[Any]]
) -> AsyncIterator[LocalFleet]:
    """Run both parts in this process, whose log is beside the data."""
    log, operations, urls = Path(settings.data, LOG_FILE), select_operations(settings), list[str]()
    or_any = "http_port" not in settings.model_fields_set
    async with listening_socket(settings, or_any) as listener:

        def work(stop: StopSignal) -> Coroutine[Any, Any, None]:
            return work_roles(settings, domains, ROLES, stop)

        def serve(stop: StopSignal) -> Coroutine[Any, Any, None]:
            def tell() -> None:
                urls.append(socket_url(listener))

            return serve_domains(settings, domains, operations, listener, stop, tell)

        with logged_to(log):
            async with (
                running_part("the workers", log, work) as workers,
                running_part("the HTTP service", log, serve) as service,
            ):
                kept = f"Its data is kept in {settings.data}."
                yield LocalFleet(settings, domains, workers, service, lambda: "".join(urls), kept)


@asynccontextmanager
async def _start_processes(
    given: Settings, settings: Settings, domains: dict[str, Domain[Any]]
) -> AsyncIterator[LocalFleet]:
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
        kept = "Events and snapshots stay in the servers that the settings name."
        find_url = partial(read_url, service.folder)
        yield LocalFleet(settings, domains, workers, service, find_url, kept)


def read_url(folder: Path) -> str:
    """The URL that the process of the HTTP service has written; empty until then."""
    with suppress(FileNotFoundError):
        url, newline, _ = (folder / URL_FILE).read_text().partition("\n")
        return url if newline else ""
    return ""


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


async def wait_until_ready(fleet: LocalFleet) -> None:
    """Wait until workers and service are ready.

    ProgramFailed where nothing more gets ready for as long as a start may take. Workers are ready,
    too, where only stopped partitions are not: others do their work.
    """
    seconds = fleet.settings.start_timeout
    async with _probe_session() as session:
        for part in fleet.parts:
            fewest, moved = math.inf, time.monotonic()
            while waiting := await _count_waiting(session, fleet.ready_url(part)):
                if waiting < fewest:
                    fewest, moved = waiting, time.monotonic()
                elif time.monotonic() > moved + seconds:
                    limit = variable("start_timeout")
                    raise part.failure(f"was not ready within {seconds:g} seconds ({limit})")
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


def free_port() -> int:
    """A port of this machine that nothing listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
