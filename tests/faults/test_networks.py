"""Servers that are slow, cut off or silent for a while, or full: the fleet waits and goes on."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.acceptance.kafka_by_hand import wait_for
from tests.conftest import running
from tests.faults.fleet_oracle import check, settle
from tests.faults.fleet_supervisor import FleetSupervisor
from tests.faults.half_done_probe import get
from tests.faults.load import CommandLoad
from tests.faults.outage import OutageFleet
from tests.servers.kafka import ProxiedKafka
from tests.servers.mongodb import MongoDB
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis
from tests.servers.server import free_port

PLACES = ("command-1", "append-1", "snapshot-1", "relay-1")
ROLES = ("command", "append", "snapshot", "relay")
RATE, ORDERS = 60, 8_000
TIMEOUTS = {"KAFKA_TIMEOUT": "4", "MONGO_TIMEOUT": "4", "REDIS_TIMEOUT": "3"}
SLOW_SECONDS = 0.15
HARM_SECONDS = 12.0
"""Longer than each timeout, and than a session."""

Harm = Callable[[], AbstractContextManager[None]]

pytestmark = pytest.mark.faults


class ProxiedServers:
    """A Kafka, a MongoDB and a Redis, each behind a proxy."""

    def __init__(self, stack: ExitStack) -> None:
        port = free_port()
        kafka = stack.enter_context(running(lambda: ProxiedKafka(f"127.0.0.1:{port}")))
        mongo = stack.enter_context(running(MongoDB))
        self.redis = stack.enter_context(running(Redis))
        self.proxies: Mapping[str, Proxy] = {
            "Kafka": stack.enter_context(Proxy(kafka.behind, port=port)),
            "MongoDB": stack.enter_context(Proxy(mongo.address)),
            "Redis": stack.enter_context(Proxy(self.redis.address)),
        }

    @property
    def addresses(self) -> tuple[str, str, str]:
        kafka, mongo, redis = (proxy.address for proxy in self.proxies.values())
        return kafka, f"mongodb://{mongo}/?directConnection=true", f"redis://{redis}/0"


@pytest.fixture
def servers() -> Iterator[ProxiedServers]:
    with ExitStack() as stack:
        yield ProxiedServers(stack)


@pytest.fixture
def fleet(servers: ProxiedServers, tmp_path: Path) -> Iterator[OutageFleet]:
    with OutageFleet(servers.addresses, tmp_path) as made:
        made.environment |= {f"EVENTFLEET_{name}": seconds for name, seconds in TIMEOUTS.items()}
        yield made


def survive(fleet: OutageFleet, harms: Mapping[str, Harm], waits: str) -> None:
    """Do each harm under a load of commands; those longer than a timeout make this role wait."""
    supervisor = FleetSupervisor(fleet, *PLACES)
    with CommandLoad(fleet.kafka.address, RATE, ORDERS) as load:
        for name, harm in harms.items():
            supervisor.wait_for_progress(ROLES)
            retries = supervisor.metric("retries_total")
            with harm():
                if name != "slow":
                    worker = supervisor.workers[f"{waits}-1"]
                    wait_for(
                        lambda w=worker: " waits: " in get(w, "/ready")[1],
                        f"{waits} to wait for a server that is {name}",
                    )
                time.sleep(HARM_SECONDS)
                for place, each in supervisor.workers.items():
                    assert each.process.poll() is None, each.output()
                    assert get(each, "/live")[0] == 200, place
            supervisor.wait_until_owned()
            print(f"\n{name}: opened again {supervisor.metric('retries_total') - retries:g} times")
        supervisor.wait_for_progress(ROLES)
        sent = load.stop()
    assert supervisor.restarts == 0
    settle(fleet, {"command": "commands"})
    print(check(fleet, sent))


@pytest.mark.parametrize(
    ("server", "waits"), [("Kafka", "relay"), ("MongoDB", "append"), ("Redis", "command")]
)
def test_a_server_that_is_slow_cut_off_or_silent(
    servers: ProxiedServers, fleet: OutageFleet, server: str, waits: str
) -> None:
    proxy = servers.proxies[server]
    harms: dict[str, Harm] = {
        "slow": lambda: proxy.slowed(SLOW_SECONDS),
        "cut off": proxy.cut,
        "silent": proxy.silenced,
    }
    survive(fleet, harms, waits)


def test_a_redis_that_is_full(servers: ProxiedServers, fleet: OutageFleet) -> None:
    """By `maxmemory` and noeviction: it answers OOM to each write."""

    @contextmanager
    def full() -> Iterator[None]:
        servers.redis.execute("CONFIG SET maxmemory 1")
        try:
            yield
        finally:
            servers.redis.execute("CONFIG SET maxmemory 0")

    survive(fleet, {"full": full, "full again": full}, "command")
