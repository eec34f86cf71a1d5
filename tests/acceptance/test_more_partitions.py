"""The guide to more partitions: its commands, as they stand, on a domain of each mode."""

import os
import re
import shlex
import signal
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from eventfleet.topics.names import Topics
from eventfleet.topics.partitioner import partition_of
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT
from tests.acceptance.terminal import Terminal
from tests.servers.server import free_port

GUIDE = (ROOT / "docs" / "guides" / "more-partitions.md").read_text()
WAIT, DELETE, START, WELL = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
ROLES = "append snapshot relay"
PURSES = ["p-1", "p-2", "p-7"]
MODULE = """
from msgspec.structs import replace

from eventfleet import START, Command, Domain, Emits, Event, Rejection, Route, State, every


class Filled(Event):
    cents: int


class Fill(Command):
    cents: int


class Purse(State):
    cents: int = 0


def evolve(purse, event):
    return replace(purse, cents=purse.cents + event.cents)


def decide(purse, command):
    return [Filled(cents=command.cents), Filled(cents=0)]


by_event = {"commands": [Emits(Fill, Filled, after={START, Filled})]}
by_state = {"commands": [Fill], "decide": decide}
purses = Domain(
    "purses",
    state=Purse,
    evolve=evolve,
    events=[Filled],
    snapshot=every(2),
    routes=[Route("purses.out")],
    **MODE,
)
"""
FILL = """
import asyncio
import sys

from eventfleet.commands import Stage, event_service, load_settings
from purses import Fill, purses


async def main(cents, wait, *ids):
    async with event_service(load_settings(), purses) as service:
        for id in ids:
            fill, once = Fill(cents=int(cents)), f"{id}-{cents}"
            sent = await service.send(id, fill, command_id=once, wait=Stage(wait))
            print(type(sent.outcome).__name__, (await service.latest(id)).state.cents)


asyncio.run(main(*sys.argv[1:]))
"""
WORDS = {
    "start-workers": f"""
        setsid eventfleet worker {ROLES} >> worker.log 2>&1 < /dev/null &
        echo $! > worker.pid
    """,
    "stop-workers": """
        kill $(cat worker.pid)
        while grep -q . "/proc/$(cat worker.pid)/cmdline" 2> /dev/null; do sleep 0.1; done
    """,
    "kafka-topics.sh": f"""
        exec {shlex.quote(sys.executable)} -m tests.acceptance.topics_by_hand "$@"
    """,
}


class Operator(Terminal):
    """An operator's terminal beside a fleet, with the page's words on the path."""

    def __init__(self, fleet: CommandFleet) -> None:
        super().__init__(fleet.folder)
        self.fleet = fleet
        bin = self.folder / "bin"
        bin.mkdir()
        for word, script in WORDS.items():
            (bin / word).write_text(f"#!/bin/bash\n{script}")
            (bin / word).chmod(0o755)
        port = str(free_port())
        self.environment |= fleet.environment | {
            "PATH": os.pathsep.join([str(bin), sysconfig.get_path("scripts"), os.environ["PATH"]]),
            "EVENTFLEET_METRICS_PORT": port,
            "DOMAIN": fleet.domain,
            "WORKER": f"http://127.0.0.1:{port}",
        }

    def until_ready(self) -> None:
        self.run('until curl -sf "$WORKER/ready"; do sleep 0.1; done')

    def fill(self, cents: int, wait: str) -> list[str]:
        """Fill the purses, and wait until that has come to a stage; outcome and state of each."""
        (self.folder / "fill.py").write_text(FILL)
        return self.run(f'"$PYTHON" fill.py {cents} {wait} {" ".join(PURSES)}').splitlines()

    def relayed(self) -> dict[str, list[tuple[int, int]]]:
        """The versions and epochs of each purse's events on the route, in the topic's order."""
        found = defaultdict(list)
        for event in self.fleet.topic_events("out"):
            epoch = int(event["position"].partition("-")[0])
            found[event["subject"]].append((event["version"], epoch))
        return found


@pytest.fixture(params=["by_event", "by_state"])
def operator(
    request: pytest.FixtureRequest, kafka: str, mongo_url: str, redis_url: str, tmp_path: Path
) -> Iterator[Operator]:
    (tmp_path / "purses.py").write_text(MODULE.replace("MODE", request.param))
    with CommandFleet((kafka, mongo_url, redis_url), tmp_path, "purses") as fleet:
        operator = Operator(fleet)
        operator.run("start-workers")
        try:
            operator.until_ready()
            yield operator
        finally:
            with suppress(ProcessLookupError):
                os.kill(int((tmp_path / "worker.pid").read_text()), signal.SIGKILL)


def test_four_partitions_become_eight(operator: Operator) -> None:
    moved = [purse for purse in PURSES if partition_of(purse, 4) != partition_of(purse, 8)]
    assert 0 < len(moved) < len(PURSES)
    each = 1 if "**by_event" in (operator.folder / "purses.py").read_text() else 2
    assert operator.fill(10, "relayed") == ["Accepted 10"] * 3

    operator.run(f"set -e\n{WAIT}")
    operator.run(f"set -e\n{DELETE}")
    assert operator.fleet.kafka.topics() >= {"purses.out"}
    assert not operator.fleet.kafka.topics() & {*Topics.of("purses", "")}
    operator.paste(START)
    operator.run(f"set -e\n{WELL}")

    assert operator.environment["EVENTFLEET_PARTITIONS"] == "8"
    assert operator.fill(10, "appended") == ["Repeated 10"] * 3
    assert operator.fill(5, "relayed") == ["Accepted 15"] * 3
    versions = [(version, version > each) for version in range(1, 2 * each + 1)]
    assert operator.relayed() == dict.fromkeys(PURSES, versions)
    operator.run("eventfleet audit purses")
