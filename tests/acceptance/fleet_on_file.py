"""A fleet on a file: its roles run in threads of this process, or all in one `eventfleet serve`."""

import asyncio
import logging
import os
import sys
import threading
import time
from asyncio import Queue
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Self, TypeVar

import pytest
from click.testing import CliRunner, Result

from eventfleet.cli import main
from eventfleet.roles import build_choice, redrive_schedule
from eventfleet.runtime.connections import select_domains
from eventfleet.runtime.file_backend import FileBackend, data_file
from eventfleet.runtime.process_stop import StopSignal
from eventfleet.runtime.settings import PREFIX, split
from eventfleet.stores.memory import channels
from eventfleet.stores.memory.markers import MemoryRedis
from eventfleet.workers.agent import Agent
from eventfleet.workers.project_agent import ProjectAgent
from eventfleet.workers.worker import work_roles
from tests.acceptance.command_fleet import CommandFleet, settings_of
from tests.acceptance.file_by_hand import (
    EVENTS,
    SNAPSHOTS,
    FileLogByHand,
    TableByHand,
    view_rows,
)
from tests.acceptance.fleet import ROOT, TIMEOUT_SECONDS, Worker, environment_of
from tests.acceptance.http_service import HttpService

T = TypeVar("T")

REST = timedelta(seconds=0.5)
"""After which a role at rest looks at what is asked of it, and tries again what it parks."""

logger = logging.getLogger("eventfleet")


class QueueAcrossLoops(Queue[T]):
    """A queue into which other threads' loops may put."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._home = asyncio.get_running_loop()

    def put_nowait(self, item: T) -> None:
        with suppress(RuntimeError):  # that loop has ended
            self._home.call_soon_threadsafe(super().put_nowait, item)


@contextmanager
def as_process(environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    """This process has an environment and a folder, and imports the team's modules anew."""
    teams = [
        module
        for module in split(environment[f"{PREFIX}DOMAINS"])
        if not module.startswith("eventfleet.")
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.setattr(sys, "dont_write_bytecode", True)  # a module may change within a second
        for name in os.environ.keys() - environment.keys():
            patch.delenv(name)
        for name, value in environment.items() - os.environ.items():
            patch.setenv(name, value)
        for module in teams:
            patch.delitem(sys.modules, module, raising=False)
        try:
            yield
        finally:
            for module in teams:
                sys.modules.pop(module, None)


_killed: list["RoleThread"] = []
"""They stay: the end of their coroutines, which a collection brings about, would do something."""


class RoleThread(Worker):
    """Roles on a loop of their own, in a thread of this process."""

    def __init__(self, roles: tuple[str, ...], environment: Mapping[str, str], log: Path) -> None:
        self.roles, self.log = roles, log
        with as_process(environment, log.parent):
            settings = settings_of(environment)
            domains = select_domains(settings)
        self._loop, self._stop = asyncio.new_event_loop(), StopSignal()
        self._task = self._loop.create_task(work_roles(settings, domains, roles, self._stop))
        self._task.add_done_callback(lambda _: self._loop.stop())
        log.touch()
        self._thread = threading.Thread(target=self._run, name=f"roles {roles}", daemon=True)
        self._thread.start()

    def ready(self) -> bool:
        assert self._thread.is_alive(), f"{self.roles} ended:\n{self.output()}"
        return self.get("/ready")[0] == 200

    def stop(self) -> int:
        """Its exit status, once it has finished what is in hand."""
        self._end(self._ask_to_stop)
        return int(not self._task.cancelled() and self._task.exception() is not None)

    def kill(self) -> None:
        """End it in the midst of its work; this process still has the file."""
        _killed.append(self)
        self._end(self._loop.stop)

    def _ask_to_stop(self) -> None:
        self._stop.set()
        if not self._stop.heeded:
            self._task.cancel()

    def _end(self, ask: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(ask)
        self._thread.join(TIMEOUT_SECONDS)
        assert not self._thread.is_alive(), f"{self.roles} do not end:\n{self.output()}"

    def _run(self) -> None:
        with self._logged():
            self._loop.run_forever()
            if not self._task.done():
                return
            if not self._task.cancelled() and (error := self._task.exception()):
                logger.error("%s ended", self.roles, exc_info=error)
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """Write to the file what this thread logs."""
        thread, handler = threading.get_ident(), logging.FileHandler(self.log)
        handler.addFilter(lambda record: record.thread == thread)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            handler.close()


class FileFleet(CommandFleet):
    """A CommandFleet without servers: its log, its stores and its markers are in a file.

    As one process has the file, its commands run in this one.
    """

    nowhere = MappingProxyType({"DATA": "/proc/nowhere"})
    is_one_process = True

    def __init__(self, folder: Path, module: str, **settings: str) -> None:
        self.domain, self.folder, self.prefix = module.rpartition(".")[2], folder, "fleet"
        self.workers: list[Worker] = []
        values = {
            "DATA": str(folder / "data"),
            "GROUP_PREFIX": self.prefix,
            "DOMAINS": module,
            "PARTITIONS": "4",
            "METRICS_PORT": "0",
        }
        self.environment = environment_of(values | settings)
        self.environment["PYTHONPATH"] = str(ROOT)
        file = data_file(self.settings)
        self.kafka = FileLogByHand(self.settings)
        self.events = TableByHand(file, self.domain, EVENTS)
        self.snapshots = TableByHand(file, self.domain, SNAPSHOTS)
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> Self:
        # The notices and channels of the file are its process's, whose loops are several here.
        self._patch.setattr(channels, "asyncio", SimpleNamespace(Queue=QueueAcrossLoops))
        self._level = logger.level
        for agent in (Agent, ProjectAgent):
            self._patch.setattr(agent, "rest_seconds", REST.total_seconds())
        self._patch.setattr(build_choice, "BUILDS_INTERVAL", REST)
        self._patch.setattr(redrive_schedule, "UNASKED_REDRIVE_DELAY", REST)
        logger.setLevel(logging.INFO)
        self.run("topics", "create")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stop_workers()
        finally:
            logger.setLevel(self._level)
            self._patch.undo()

    def run(self, *arguments: str, status: int = 0) -> str:
        done = self.invoke(*arguments)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == status, done.output
        return done.stdout

    def invoke(self, *arguments: str) -> Result:
        with as_process(self.environment, self.folder):
            return CliRunner().invoke(main, arguments)

    def _begin(self, roles: tuple[str, ...], environment: Mapping[str, str], log: Path) -> Worker:
        for name, value in environment.items() - os.environ.items():
            if not name.startswith(PREFIX):  # for the team's code, while it runs in the threads
                self._patch.setenv(name, value)
        return RoleThread(roles, environment, log)

    @contextmanager
    def serving(self, *names: str, **settings: str) -> Iterator[HttpService]:
        """A process that serves and runs all roles, in place of those here."""
        self._stop_workers()
        with super().serving(*names, **settings) as service:
            yield service

    def view_rows(self, view: str, table: str) -> TableByHand:
        return view_rows(data_file(self.settings), self.domain, view, table)

    # Markers, within the process that has them

    def marker(self, aggregate_id: str) -> dict[str, str]:
        marker = self._redis.data.markers.get((self.domain, aggregate_id))
        if marker is None:
            return {}
        noted = {"pend": marker.note.event_id} if marker.note else {}
        return {"type": marker.type, "last": marker.last_event_id} | noted

    def marker_seconds(self, aggregate_id: str) -> int:
        marker = self._redis.data.markers.get((self.domain, aggregate_id))
        return int(marker.expires_at - time.time()) if marker else -2

    def change_marker(self, aggregate_id: str, **fields: str) -> None:
        names = {"type": "type", "last": "last_event_id"}
        key, markers = (self.domain, aggregate_id), self._redis.data.markers
        markers[key] = replace(markers[key], **{names[name]: fields[name] for name in fields})

    def delete_marker(self, aggregate_id: str) -> None:
        del self._redis.data.markers[self.domain, aggregate_id]

    def forget_markers(self) -> None:
        self._redis.flush()

    @property
    def _redis(self) -> MemoryRedis:
        return FileBackend(self.settings)._servers.markers

    def _stop_workers(self) -> None:
        for worker in self.workers:
            if worker not in _killed:
                worker.stop()
