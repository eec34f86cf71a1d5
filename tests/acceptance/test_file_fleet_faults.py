"""A fleet on a file whose disk fails, is full, or loses what is not synced: COUNT=20 of each."""

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import apsw
import pytest

from eventfleet.commands import Accepted, EventService, Unavailable, event_service
from eventfleet.fleet import running_roles
from eventfleet.runtime.settings import Settings
from tests.acceptance.file_fleet import DOMAINS, Answered, assert_kept
from tests.acceptance.file_fleet_senders import SENDERS, Add
from tests.contract.faulty_files import FaultyFiles, faulty_files
from tests.integration.copied_topic import until

ROUNDS = range(int(os.environ.get("COUNT", "1")))


def full(*_: object) -> None:
    raise apsw.FullError("no room")


def broken(*_: object) -> None:
    raise apsw.IOError("no disk")


async def send(accepted: set[Answered], service: EventService, domain: str, sender: int) -> None:
    aggregate = f"{domain}-{sender}"
    while True:
        outcome = await service.send(aggregate, Add(amount=1))
        assert isinstance(outcome, Accepted | Unavailable), outcome
        if isinstance(outcome, Accepted):
            accepted.add((domain, aggregate, outcome.event_id))


@asynccontextmanager
async def working(settings: Settings, accepted: set[Answered]) -> AsyncIterator[None]:
    """Run the fleet, and senders that note what was accepted."""
    sums, tallies = DOMAINS.values()
    async with (
        running_roles(settings, DOMAINS.values()),
        event_service(settings, sums) as of_sums,
        event_service(settings, tallies) as of_tallies,
    ):
        services = {"sums": of_sums, "tallies": of_tallies}
        tasks = [
            asyncio.create_task(send(accepted, service, domain, sender))
            for domain, service in services.items()
            for sender in range(SENDERS)
        ]
        await until(lambda: len(accepted) > SENDERS)
        yield
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(each) for each in ends} == {asyncio.CancelledError}


@pytest.mark.parametrize("round", ROUNDS)
def test_a_loss_of_power_takes_nothing_that_was_accepted(tmp_path: Path, round: int) -> None:
    accepted, before = set[Answered](), set[Answered]()
    data, left = tmp_path / "data", tmp_path / "left"

    async def work(files: FaultyFiles) -> None:
        files.disk = tmp_path / "disk"
        files.disk.mkdir()
        async with working(Settings(data=str(data), metrics_port=0), accepted):
            await asyncio.sleep(random.Random(round).uniform(0, 1))
            before.update(accepted)
            disk, files.disk = files.disk, None
            await asyncio.to_thread(shutil.copytree, disk, left)

    with faulty_files() as files:
        asyncio.run(work(files))
    assert_kept(left, before)


@pytest.mark.parametrize("round", ROUNDS)
@pytest.mark.parametrize("fault", [full, broken])
@pytest.mark.parametrize("at", ["on_write", "on_sync"])
def test_a_disk_that_fails_for_a_while_takes_nothing(
    tmp_path: Path, fault: Callable[..., None], at: str, round: int
) -> None:
    accepted, chance = set[Answered](), random.Random(round)
    data = tmp_path / "data"

    async def work(files: FaultyFiles) -> None:
        async with working(Settings(data=str(data), metrics_port=0), accepted):
            for _ in range(3):
                setattr(files, at, fault)
                await asyncio.sleep(chance.uniform(0, 0.5))
                setattr(files, at, None)
                wanted = len(accepted) + SENDERS
                await until(partial(lambda wanted: len(accepted) >= wanted, wanted))

    with faulty_files() as files:
        asyncio.run(work(files))
    assert_kept(data, accepted)
