"""A process that dies behind its answers, before the stream has their events."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import TIMEOUT_SECONDS
from tests.acceptance.fleet_kinds import KINDS, open_command_fleet
from tests.acceptance.kafka_by_hand import wait_for

COUNT = 800
PROGRAM = """
import asyncio, os, signal
from eventfleet.commands import event_service
from eventfleet.deciders.event_publisher import EventPublisher
from eventfleet.domains.bank import Open, bank
from eventfleet.runtime.settings import Settings

async def lost(self, records):
    await asyncio.sleep(3600)

async def main():
    EventPublisher._produce = lost
    async with event_service(Settings(), bank) as service:
        sent = [service.send(f"a{n}", Open("ann", "EUR")) for n in range(COUNT)]
        outcomes = await asyncio.gather(*sent)
        print(sorted({type(each).__name__ for each in outcomes}), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.fixture(params=KINDS)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CommandFleet]:
    with open_command_fleet(request, tmp_path, "eventfleet.domains.bank") as fleet:
        if not fleet.is_one_process:
            fleet.start("append")
        yield fleet


def test_append_publishes_what_was_answered_and_not_produced(fleet: CommandFleet) -> None:
    (fleet.folder / "program.py").write_text(PROGRAM.replace("COUNT", str(COUNT)))
    done = subprocess.run(
        [sys.executable, "program.py"],
        env=fleet.environment,
        cwd=fleet.folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    if fleet.is_one_process:
        fleet.start("append")
    began = time.monotonic()
    assert (done.returncode, done.stdout) == (-9, "['Accepted']\n"), done.stderr
    wait_for(lambda: len(fleet.topic_events("stored")) >= COUNT, "the sweep")
    print(f"published {time.monotonic() - began:.1f} s after the kill")
    stored = fleet.topic_events("stored")
    assert sorted(each["subject"] for each in stored) == sorted(f"a{n}" for n in range(COUNT))
