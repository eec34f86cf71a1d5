"""`python -m benchmarks.chat` loads two service processes with clients in rooms.

Clients lose their connections at random, and one process is killed in the middle. At the end every
client must have the store's messages in the store's order; and the 99th percentile of delivery, but
for the seconds after the kill, may be MAX_RATIO times that of a bare relay in the same run. The
bare relay runs before and after, so that what else the machine does then counts for both.
"""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

import click
import httpx
from rich.console import Console

from benchmarks.chat.clients import RoomClient
from benchmarks.scenario import ServerAddresses
from benchmarks.servers import provide_servers
from eventfleet.cli.local_fleet import free_port
from eventfleet.runtime.event_loop import run
from eventfleet.runtime.settings import PREFIX
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.http_service import HttpService
from tests.acceptance.kafka_by_hand import wait_for

MAX_RATIO = 5.0
RECONNECTS_A_SECOND = 5
AFTER_KILL_SECONDS = 10.0
BARE_SECONDS = 30.0
SETTLE_SECONDS = 60.0
PERCENTILES = 100


@dataclass(frozen=True)
class ChatLoad:
    """What is asked of a run."""

    clients: int
    rooms: int
    rate: int
    seconds: float


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--clients", envvar="CLIENTS", default=500, show_default=True)
@click.option("--rooms", envvar="ROOMS", default=50, show_default=True)
@click.option("--rate", envvar="RATE", default=100, show_default=True, help="Messages a second.")
@click.option("--seconds", envvar="SECONDS", default=300.0, show_default=True)
def main(clients: int, rooms: int, rate: int, seconds: float) -> None:
    """Load chat rooms; the exit status is 1 when a message is missing, or delivery is too slow.

    CLIENTS, ROOMS, RATE and SECONDS are environment variables too.
    """
    load = ChatLoad(clients, rooms, rate, seconds)
    with provide_servers() as servers, TemporaryDirectory(prefix="eventfleet-chat-") as folder:
        passed = _compare(servers, Path(folder), load)
    raise SystemExit(not passed)


def _compare(servers: ServerAddresses, folder: Path, load: ChatLoad) -> bool:
    console = Console(highlight=False)
    before = _bare(servers, load)
    addresses = servers.kafka, servers.mongo_url, servers.redis_url
    settings = {"HTTP_OPERATIONS": "examples.chat.rooms", "PARTITIONS": "1", "CHUNK_WAIT": "0.5"}
    with CommandFleet(addresses, folder, "examples.chat", **settings) as fleet:
        fleet.start("append")
        run_of_ours = OurRun(fleet, load)
        try:
            run(run_of_ours.run())
        finally:
            run_of_ours.stop()
    after = _bare(servers, load)
    bare, ours = percentile(before + after), run_of_ours.delay
    console.print(run_of_ours.summary())
    console.print(
        f"bare relay: 99 % delivered within {bare * 1000:.1f} ms ({percentile(before) * 1000:.1f} "
        f"before, {percentile(after) * 1000:.1f} after)"
    )
    console.print(
        f"eventfleet: 99 % delivered within {ours * 1000:.1f} ms, {ours / bare:.1f} times the bare "
        f"relay's (at most {MAX_RATIO:g})"
    )
    for fault in run_of_ours.faults[:20]:
        console.print(fault)
    return not run_of_ours.faults and ours <= MAX_RATIO * bare


def _bare(servers: ServerAddresses, load: ChatLoad) -> list[float]:
    """The delays of a bare relay's deliveries, in seconds."""
    ports = free_port(), free_port()
    with ExitStack() as stack:
        for port in ports:
            command = [sys.executable, "-m", "benchmarks.chat.bare_relay", str(port)]
            process = subprocess.Popen([*command, servers.redis_url])
            stack.callback(process.wait)
            stack.callback(process.kill)
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        clients = make_clients(load, urls, bare=True)
        run(under_load(clients, load.rate, BARE_SECONDS, _nothing))
    return [delay for client in clients for _, delay in client.delays]


async def _nothing() -> None:
    pass


def make_clients(load: ChatLoad, urls: list[str], bare: bool) -> list[RoomClient]:
    return [
        RoomClient(number, f"room-{number // 2 % load.rooms}", urls, bare)
        for number in range(load.clients)
    ]


def percentile(delays: list[float]) -> float:
    """Return the 99th percentile."""
    return quantiles(delays, n=PERCENTILES)[-1]


async def under_load(
    clients: list[RoomClient], rate: int, seconds: float, disturb: Callable[[], Awaitable[None]]
) -> None:
    """Let clients talk for some seconds, and come and go; `disturb` runs beside it. Then wait until
    all that was said has had its outcome."""
    chance = random.Random(20_261_123)
    running = [asyncio.create_task(client.run()) for client in clients]
    await all_connected(clients)
    disturbing = asyncio.ensure_future(disturb())
    try:
        start, said, left, looked = time.monotonic(), 0, 0, 0
        while (elapsed := time.monotonic() - start) < seconds:
            while said < elapsed * rate:
                client = chance.choice(clients)
                if client.connected:
                    said += 1
                    await client.say(f"m{said}")
            while left < elapsed * RECONNECTS_A_SECOND:
                left += 1
                running.append(asyncio.create_task(chance.choice(clients).leave()))
            while looked < elapsed:
                looked += 1
                for client in clients:
                    await client.say_again()
            await asyncio.sleep(0.005)
        await disturbing
        end = time.monotonic() + SETTLE_SECONDS
        while any(c.untold for c in clients if not c.bare) and time.monotonic() < end:
            for client in clients:
                await client.say_again()
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def all_connected(clients: list[RoomClient]) -> None:
    async with asyncio.timeout(SETTLE_SECONDS):
        for client in clients:
            await client.first_connection.wait()


class OurRun:
    """Two service processes under load, one of them killed."""

    def __init__(self, fleet: CommandFleet, load: ChatLoad) -> None:
        self._fleet, self._load = fleet, load
        self._ports = [free_port(), free_port()]
        self._services = [self._start(number) for number in range(2)]
        self.clients = make_clients(load, [service.url for service in self._services], bare=False)
        self._killed_at = 0.0
        self.faults: list[str] = []

    def _start(self, number: int) -> HttpService:
        folder = self._fleet.folder / f"service-{number}-{time.monotonic_ns()}"
        folder.mkdir()
        port = {f"{PREFIX}HTTP_PORT": str(self._ports[number])}
        service = HttpService({**self._fleet.environment, **port}, folder)
        wait_for(service.ready, "the service to be ready")
        return service

    def stop(self) -> None:
        for service in self._services:
            service.process.kill()
            service.process.wait()

    async def run(self) -> None:
        await under_load(self.clients, self._load.rate, self._load.seconds, self._kill)
        self._check()

    async def _kill(self) -> None:
        """Kill one process in the middle; another takes its place some seconds later."""
        await asyncio.sleep(self._load.seconds / 2)
        self._killed_at = time.monotonic()
        self._services[0].process.kill()
        await asyncio.sleep(AFTER_KILL_SECONDS / 2)
        self._services[0] = await asyncio.to_thread(self._start, 0)

    @property
    def delay(self) -> float:
        """The 99th percentile of delivery in seconds, but for the seconds after the kill."""
        first, last = self._killed_at, self._killed_at + AFTER_KILL_SECONDS
        return percentile(
            [
                delay
                for client in self.clients
                for moment, delay in client.delays
                if not first <= moment - delay <= last
            ]
        )

    def summary(self) -> str:
        said = sum(len(client.told) for client in self.clients)
        heard = sum(len(client.events) for client in self.clients)
        connects = sum(client.connects for client in self.clients)
        repeated = sum(list(c.told.values()).count("repeated") for c in self.clients)
        return (
            f"{len(self.clients)} clients, {connects:,} connections, {said:,} messages ({repeated} "
            f"of them sent again), {heard:,} deliveries, {len(self.faults)} faults"
        )

    def _check(self) -> None:
        """Compare what each client has with the store."""
        rooms = sorted({client.room for client in self.clients})
        stored = {room: self._stored(room) for room in rooms}
        for client in self.clients:
            self.faults += [f"client {client.number}: {fault}" for fault in client.faults]
            if client.events != stored[client.room]:
                have, want = len(client.events), len(stored[client.room])
                self.faults.append(f"client {client.number} has {have} messages of {want}")
            if client.untold:
                self.faults.append(f"client {client.number}: no outcome of {[*client.untold]}")
        ids = [message for events in stored.values() for _, message in events]
        told = [message for client in self.clients for message in client.told]
        if sorted(ids) != sorted(told):
            self.faults.append(f"{len(ids)} messages are stored, {len(told)} were told so")

    def _stored(self, room: str) -> list[tuple[int, str]]:
        after, found = 0, []
        with httpx.Client(base_url=self._services[1].url, timeout=30) as client:
            while True:
                path = f"/domains/chat/{room}/events"
                page = client.get(path, params={"after": after, "limit": 1000}).json()
                events = page["events"]
                found += [(each["version"], each["data"]["message_id"]) for each in events]
                if not page["next"]:
                    return found
                after = page["next"]


if __name__ == "__main__":
    main()
