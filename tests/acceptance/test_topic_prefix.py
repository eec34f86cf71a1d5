"""Two fleets of one domain share a Kafka, a MongoDB and a Redis by their topic prefixes."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from websockets.asyncio.client import connect

from eventfleet.commands import Stage, WaitResult, event_service
from eventfleet.domains.orders import Pay, orders
from eventfleet.runtime.settings import PREFIX
from eventfleet.topics.names import Topics
from eventfleet.workers.agents import ROLES
from tests.acceptance.chat_client import PATIENCE_SECONDS, ChatClient
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.http_service import HttpService
from tests.acceptance.kafka_by_hand import wait_for

MODULE = """
from dataclasses import replace

from eventfleet import Followed
from eventfleet.domains.orders import Place, orders

orders = replace(orders, followed=Followed(commands=[Place]))
"""
NAMES = [*Topics.of("orders", ""), *orders.targets]
AMOUNTS = {"green.": 11, "blue.": 22}
SERVED = "/domains/orders/order-1/socket?sender=ann&after=0"


class PrefixedFleet(CommandFleet):
    """A fleet and its HTTP service; its topic prefix keeps it apart, and nothing else on Kafka."""

    def __init__(
        self, servers: tuple[str, str, str], folder: Path, topic_prefix: str, redis_url: str
    ) -> None:
        folder.mkdir()
        (folder / "orders.py").write_text(MODULE)
        own = {"TOPIC_PREFIX": topic_prefix, "REDIS_URL": redis_url, "PARTITIONS": "1"}
        super().__init__(servers, folder, "orders", **own)
        del self.environment[f"{PREFIX}GROUP_PREFIX"]
        self.topic_prefix, self.amount = topic_prefix, AMOUNTS[topic_prefix]
        self.service: HttpService | None = None

    def __exit__(self, *_: object) -> None:
        if self.service:
            self.service.process.kill()
            self.service.stop()
        super().__exit__(*_)

    def _remove(self) -> None:
        self.kafka.delete(t for t in self.kafka.topics() if t.startswith(self.topic_prefix))

    def begin_all(self) -> None:
        """Start a worker of all roles, and the service."""
        self.begin(" ".join(ROLES))
        self.service = HttpService(self.environment, self.folder)

    @property
    def url(self) -> str:
        assert self.service
        return self.service.url

    def is_ready(self) -> bool:
        assert self.service
        return self.workers[0].ready() and self.service.ready()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[ChatClient]:
        """A client that follows the order over a socket."""
        async with connect(f"ws{self.url.removeprefix('http')}{SERVED}") as socket:
            yield ChatClient(socket, json.loads(await socket.recv()))

    async def pay(self) -> None:
        """Pay the order, and wait until a notice tells that it was relayed."""
        async with event_service(self.settings, orders) as service:
            pay = Pay(amount=self.amount)
            paid = await service.send("order-1", pay, wait=Stage.RELAYED, patience=PATIENCE_SECONDS)
            assert isinstance(paid, WaitResult), paid
            assert paid.stage is Stage.RELAYED, paid

    def rows(self) -> list[Any]:
        """The customers and statuses of the view's rows."""
        assert self.service
        with self.service.client() as client:
            answer = client.get("/views/orders/orders")
        rows = answer.json().get("rows", [])  # none before its first build
        return [(row["row"]["customer"], row["row"]["status"]) for row in rows]


@pytest.fixture
def fleets(
    kafka: str, mongo_url: str, redis_url: str, tmp_path: Path
) -> Iterator[list[PrefixedFleet]]:
    servers, shared = (kafka, mongo_url, redis_url), f"{redis_url.rpartition('/')[0]}/7"
    with ExitStack() as stack:
        yield [
            stack.enter_context(PrefixedFleet(servers, tmp_path / prefix, prefix, shared))
            for prefix in AMOUNTS
        ]


async def order_everywhere(fleets: list[PrefixedFleet]) -> list[list[tuple[str, Any]]]:
    """Place and pay one order in each fleet, by equal ids; the events that its follower gets."""
    green, blue = fleets
    async with green.following() as at_green, blue.following() as at_blue:
        clients = at_green, at_blue
        for fleet, client in zip(fleets, clients, strict=True):
            placed = {"customer": fleet.topic_prefix, "total": fleet.amount, "currency": "EUR"}
            told = await client.send("Place", "p1", **placed)
            assert told["outcome"] == "accepted", told
        for fleet in fleets:
            await fleet.pay()
        return [
            [(event["type"], event["data"]) for event in await client.up_to(2)]
            for client in clients
        ]


def test_fleets_with_other_prefixes_share_all_servers(fleets: list[PrefixedFleet]) -> None:
    green = fleets[0]
    names = {f"{prefix}{name}" for prefix in AMOUNTS for name in NAMES}
    assert {t for t in green.kafka.topics() if t.startswith((*AMOUNTS,))} == names
    for fleet in fleets:
        fleet.begin_all()
    for fleet in fleets:
        wait_for(fleet.is_ready, "workers and services")
    with redis.Redis.from_url(green.environment[f"{PREFIX}REDIS_URL"]) as client:
        with client.pubsub() as listener:
            listener.psubscribe("*")
            assert listener.get_message(timeout=10)
            followed = asyncio.run(order_everywhere(fleets))
            channels = set()
            while message := listener.get_message(timeout=0.2):
                channels.add(message["channel"].decode())
        keys = [key.decode() for key in client.scan_iter()]
    for name, found in {"keys": keys, "channels": channels}.items():
        prefixes = {each.partition(".")[0] + "." for each in found}
        assert prefixes == {*AMOUNTS}, f"{name}: {sorted(found)}"
    for fleet, events in zip(fleets, followed, strict=True):
        [(placed, order), paid] = events
        assert (placed, order["customer"]) == ("Placed", fleet.topic_prefix)
        assert paid == ("Paid", {"amount": fleet.amount})
        relayed = fleet.kafka.records(f"{fleet.topic_prefix}finance.ledger")
        assert [json.loads(each.value)["data"]["amount"] for each in relayed] == [fleet.amount]
        assert fleet.events.count_documents({}) == 2
        wait_for(lambda f=fleet: f.rows() == [(f.topic_prefix, "paid")], "the view")  # type: ignore[misc]
        for role, topic in {"append": "events", "relay": "stored"}.items():
            group = f"{fleet.topic_prefix}eventfleet.orders.{role}"
            assert fleet.kafka.offsets(group, f"{fleet.topic_prefix}orders.{topic}"), group
        report = fleet.json("check")
        assert (report["clean"], report["events"]) == (True, 2), report
