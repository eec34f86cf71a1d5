"""The page on settings: a fleet on servers of one's own, by its commands."""

import asyncio
import os
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from eventfleet.cli.local_fleet import start_fleet, wait_until_ready
from eventfleet.cli.managed_process import ProgramFailed
from eventfleet.runtime.settings import PREFIX
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT
from tests.acceptance.kafka_by_hand import wait_for
from tests.acceptance.terminal import Terminal
from tests.servers.server import free_port

PAGE = (ROOT / "docs" / "settings.md").read_text()
README = (ROOT / "README.md").read_text()
[COMMANDS] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
DOMAIN = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]


def test_a_fleet_starts_on_servers_of_ones_own(
    kafka: str, mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "parcels.py").write_text(DOMAIN)
    fleet = CommandFleet((kafka, mongo_url, redis_url), tmp_path, "parcels")
    own, terminal = fleet.environment, Terminal(tmp_path)
    terminal.environment["PYTHONPATH"] = str(ROOT)
    port = terminal.environment["EVENTFLEET_HTTP_PORT"] = str(free_port())
    for name in ("GROUP_PREFIX", "MONGO_DATABASE", "METRICS_PORT"):
        terminal.environment[f"EVENTFLEET_{name}"] = own[f"EVENTFLEET_{name}"]
    lines = COMMANDS
    for name, _ in re.findall(r"export (EVENTFLEET_\w+)=(.*)", COMMANDS):
        lines = re.sub(rf"({name})=.*", rf"\1='{own[name]}'", lines)
    try:
        with subprocess.Popen(
            ["bash", "-ec", f"{lines}\nwait"],
            cwd=tmp_path,
            env=terminal.environment,
            start_new_session=True,
        ) as fleet_processes:
            try:
                terminal.environment["EVENTFLEET_SERVICE_URL"] = f"http://127.0.0.1:{port}"
                send = "eventfleet send parcels p-1 Post '{\"grams\": 5}' --wait appended"
                wait_for(lambda: "accepted" in terminal.run(f"{send} || true"), "the command")
                assert '"grams": 5' in terminal.run("eventfleet state parcels p-1")
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(fleet_processes.pid, signal.SIGTERM)
    finally:
        fleet.__exit__()


async def test_up_creates_the_topics_of_routes_and_ends_when_its_workers_die(
    kafka: str,
    mongo_url: str,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = CommandFleet((kafka, mongo_url, redis_url), tmp_path, "eventfleet.domains.orders")
    for name, value in fleet.environment.items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, value)
    routes = {"shipping.requests", "finance.ledger"}
    try:
        await asyncio.to_thread(fleet.kafka.delete, routes)
        async with start_fleet(fleet.settings, ["orders"]) as up:
            assert routes <= await asyncio.to_thread(fleet.kafka.topics)
            await wait_until_ready(up)
            [worker] = workers_of(fleet.environment["EVENTFLEET_GROUP_PREFIX"])
            os.kill(worker, signal.SIGKILL)
            with pytest.raises(ProgramFailed, match="the worker process ended with status -9"):
                await up.supervise(asyncio.sleep(60))
    finally:
        await asyncio.to_thread(fleet.__exit__)


def workers_of(group_prefix: str) -> list[int]:
    """The processes of the fleet with this prefix that run roles, without their supervisors."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().split(b"\0")
            own = group_prefix.encode() in (entry / "environ").read_bytes()
            if own and b"worker" in command and b"-I" not in command:
                found.append(int(entry.name))
    return found
