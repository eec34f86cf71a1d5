"""Servers for the whole test run, and a unique name for each test."""

import gc
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import pytest

from eventfleet.stores import background_task, gaps, refusals, topic_faults
from tests.module_guard import ModuleGuard
from tests.servers.install import Absent
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB, RefusingMongoDB
from tests.servers.nats import Nats
from tests.servers.redis import Redis
from tests.servers.server import Server

S = TypeVar("S", bound=Server)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(ModuleGuard())
    signal.signal(signal.SIGTERM, _leave)
    # A shell may ignore it, as for what it starts in the background; children would do so, too.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Spares the collector all that was collected: a third of the simulation's time. Of the rest,
    collections that come less often take an eighth."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


@contextmanager
def running(server: Callable[[], S]) -> Iterator[S]:
    """A started server; where it is not installed the test fails in CI, and skips elsewhere."""
    try:
        made = server()
    except Absent as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    with made:
        yield made


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """Bootstrap server of an Apache Kafka."""
    with running(Kafka) as server:
        yield server.address


@pytest.fixture(scope="session")
def mongo_url() -> Iterator[str]:
    """The MongoDB that MONGO_URL names, or one started here."""
    if url := os.environ.get("MONGO_URL"):
        yield url
        return
    with running(MongoDB) as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis of the test run's own."""
    with running(Redis) as server:
        yield server.url


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """A NATS with JetStream of the test run's own."""
    with running(Nats) as server:
        yield server.url


@pytest.fixture(autouse=True)
def forgets_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins without what the process remembers of others: gaps, refusals, faults of
    topics, and the background tasks of services that a simulation has killed."""
    monkeypatch.setattr(gaps, "_gaps", {})
    monkeypatch.setattr(topic_faults, "_faults", [])
    monkeypatch.setattr(background_task, "_running", set())
    for operation in refusals.OF_COMMANDS.values():
        monkeypatch.setattr(operation, "_failures", 0)


@pytest.fixture
def own_kafka() -> Iterator[Kafka]:
    """A Kafka of the test's own, which it may stop."""
    with running(Kafka) as server:
        yield server


@pytest.fixture
def own_mongo() -> Iterator[RefusingMongoDB]:
    """A MongoDB of the test's own, which it may stop or let fail."""
    with running(RefusingMongoDB) as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    """A Redis of the test's own, which it may stop: it forgets all when it is killed."""
    with running(Redis) as server:
        yield server


@pytest.fixture
def prefix() -> str:
    """A unique name, fit for a domain, a database, a group or the start of a topic's name."""
    return f"t{uuid.uuid4().hex[:12]}"
