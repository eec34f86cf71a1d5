"""The HTTP service while the servers behind it are killed and frozen in the middle of requests."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain, count
from pathlib import Path
from random import Random

import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.http_service import serving
from tests.acceptance.kafka_by_hand import wait_for
from tests.conftest import running
from tests.faults import accounts
from tests.faults.command_oracle import ORDER_RULES, judge
from tests.faults.command_senders import CommandAnswer, SentCommand
from tests.faults.fleet_supervisor import FleetSupervisor
from tests.faults.http_senders import SERVICE_TIMEOUT_SECONDS, HttpSenders
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB
from tests.servers.redis import Redis
from tests.servers.server import Server

pytestmark = pytest.mark.faults
WIDTH = 4
SETTINGS = {
    "HTTP_TIMEOUT": str(SERVICE_TIMEOUT_SECONDS),
    "KAFKA_TIMEOUT": "2",
    "MONGO_TIMEOUT": "2",
    "REDIS_TIMEOUT": "2",
}
DATA = {
    "Place": {"customer": "ann", "total": 1999, "currency": "EUR"},
    "Pay": {"amount": 1999},
    "Pack": {"parcels": 1},
}


class HttpBank(accounts.BankFleet):
    """Accounts whose withdrawals come over HTTP."""

    callers: HttpSenders

    def answers(self) -> list[CommandAnswer]:
        return [*super().answers(), *self.callers.answers]

    def commands(self, caller: int) -> Iterator[SentCommand]:
        """Withdrawals from the accounts of all, by and by more than there is."""
        made = (self.withdrawals(f"w{caller}-{n}", 1, seed=100 * n + caller) for n in count())
        return chain.from_iterable(each.values() for each in made)


def orders(caller: int) -> Iterator[SentCommand]:
    """Commands in any order, on one order after the other: half of them are forbidden."""
    chance = Random(caller)
    for number in count():
        order = f"order-{caller}-{number}"
        for step in range(6):
            kind = chance.choice([*DATA])
            yield SentCommand(f"{order}-{step}", order, kind, DATA[kind])


@contextmanager
def killed(server: Server) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


Harm = Callable[[Server], AbstractContextManager[None]]


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    """It has lost nothing when it is killed."""
    with running(lambda: Redis("--appendonly", "yes", "--appendfsync", "always")) as server:
        yield server


@pytest.fixture
def bank(
    own_kafka: Kafka, own_mongo: MongoDB, own_redis: Redis, tmp_path: Path
) -> Iterator[HttpBank]:
    (folder := tmp_path / "bank").mkdir()
    servers = own_kafka.address, own_mongo.url, own_redis.url
    with HttpBank(servers, folder, accounts=10, **SETTINGS) as fleet:
        yield fleet


@pytest.fixture
def shop(
    own_kafka: Kafka, own_mongo: MongoDB, own_redis: Redis, tmp_path: Path
) -> Iterator[CommandFleet]:
    (folder := tmp_path / "shop").mkdir()
    servers = own_kafka.address, own_mongo.url, own_redis.url
    with CommandFleet(servers, folder, "eventfleet.domains.orders", **SETTINGS) as fleet:
        yield fleet


def begun(bank: HttpBank, shop: CommandFleet) -> list[FleetSupervisor]:
    """Accounts with money, and all workers at work."""
    bank.open_accounts(200_00)
    return [FleetSupervisor(bank, "append-1", "snapshot-1"), FleetSupervisor(shop, "append-1")]


@contextmanager
def calling(
    fleet: CommandFleet, commands: Callable[[int], Iterator[SentCommand]]
) -> Iterator[HttpSenders]:
    """WIDTH callers of a service of the fleet's own."""
    with serving(fleet.environment, fleet.folder) as service:
        callers = HttpSenders(service, fleet.domain, map(commands, range(WIDTH)))
        try:
            yield callers
        finally:
            callers.abandon()


def stopped(harm: Harm, server: Server, everyone: Sequence[HttpSenders]) -> None:
    """Harm the server until somebody is told that it is away."""
    for callers in everyone:
        callers.wait_for_decisions()
    before = sum(callers.unavailable_count() for callers in everyone)

    def told() -> bool:
        return sum(c.is_well() and c.unavailable_count() for c in everyone) > before

    with harm(server):
        wait_for(told, f"someone to be told that {server.name} is away")


ROUNDS: Sequence[Sequence[Harm]] = [(killed, frozen, killed), (frozen, killed, frozen)] * 2
"""Each time what is done to MongoDB, to Kafka and to Redis."""


def test_servers_stopped_in_the_middle_of_requests(
    own_kafka: Kafka,
    own_mongo: MongoDB,
    own_redis: Redis,
    bank: HttpBank,
    shop: CommandFleet,
) -> None:
    """Every answer is one that the guide names for it, and a repeat is the same command."""
    supervisor = begun(bank, shop)
    with calling(bank, bank.commands) as of_bank, calling(shop, orders) as of_shop:
        bank.callers, everyone = of_bank, (of_bank, of_shop)
        for harms in ROUNDS:
            for harm, server in zip(harms, (own_mongo, own_kafka, own_redis), strict=True):
                stopped(harm, server, everyone)
                for fleet in supervisor:
                    fleet.wait_until_owned()
        for callers in everyone:
            callers.wait_for_decisions()
            callers.end()
    print(f"\neach server stopped {len(ROUNDS)} times")
    print("bank:", accounts.check(bank, of_bank.sent_commands, limited=False))
    print(
        "orders:",
        judge(shop, of_shop.sent_commands, of_shop.answers, ORDER_RULES, nothing_lost=True),
    )
