"""Workers as processes."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from eventfleet.runtime.settings import PREFIX, Settings
from tests.acceptance.fleet import ROOT
from tests.integration.copied_topic import until
from tests.program import ForkedProgram

BOUND = 30


class WorkerProcess:
    """A process of `tests.integration.copy_role`."""

    def __init__(
        self, settings: Settings, source: str, url_file: Path, mood: dict[str, str]
    ) -> None:
        self.url_file = url_file
        mine = {"KAFKA_BROKERS": settings.kafka_brokers, "CHUNK_RECORDS": "100"}
        mine |= {"KAFKA_SESSION_TIMEOUT": mood.get("session", "6")}
        mine |= {"KAFKA_INSTANCE_ID": mood.get("instance_id", "")}
        environment = {PREFIX + name: value for name, value in mine.items()}
        self.log = url_file.with_name(f"{url_file.name}.log")
        self.process = ForkedProgram(
            [source, str(url_file), mood.get("fatal_at", ""), mood.get("crash_at", "")],
            os.environ | environment | {"PAUSE": mood.get("pause", "0")},
            *(ROOT, self.log),
            module="tests.integration.copy_role",
        )

    async def page(self, path: str) -> tuple[int, str]:
        """The status and text of its page."""
        await until(self.url_file.exists)
        async with aiohttp.request("GET", self.url_file.read_text() + path) as answer:
            return answer.status, await answer.text()

    async def ready(self) -> bool:
        return (await self.page("/ready"))[0] == 200

    async def assigned(self) -> str:
        """How many partitions it says it has."""
        lines = (await self.page("/metrics"))[1].splitlines()
        name = "eventfleet_assigned_partitions{"
        return next(line.split()[-1] for line in lines if line.startswith(name))

    async def ended(self) -> tuple[int, str]:
        """Its status, and what it wrote."""
        status = await asyncio.to_thread(self.process.wait, BOUND)
        return status, self.log.read_text(errors="replace")


Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(settings: Settings, source: str, tmp_path: Path) -> Iterator[Start]:
    """Starts workers on the topic; those left at the end are killed, and their errors printed."""
    workers: list[WorkerProcess] = []

    def started(**mood: str) -> WorkerProcess:
        workers.append(WorkerProcess(settings, source, tmp_path / str(len(workers)), mood))
        return workers[-1]

    yield started
    for worker in workers:
        worker.process.kill()
        print(worker.log.read_text(errors="replace"))
