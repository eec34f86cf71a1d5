"""The HTTP service over in-memory servers; its decider stores events at once."""

import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
from joserfc import jwt
from joserfc.jwk import Key, OctKey
from msgspec import to_builtins
from starlette.types import ASGIApp

from eventfleet.deciders.decider import Answer
from eventfleet.deciders.outcomes import Accepted, Outcome
from eventfleet.domains.orders import orders
from eventfleet.feeds.event_feed import EventFeed
from eventfleet.model.domain import Domain
from eventfleet.roles.notices import notices_of
from eventfleet.service.event_service import EventService
from eventfleet.service.parked_aggregates import ParkedAggregates
from eventfleet.service.stage_waiter import CommandFollower, StageWaiters
from eventfleet.states.querier import Querier
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import Disposition, Stage
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.stores.memory.channels import MemoryNotices
from eventfleet.stores.memory.log import MemoryFollower
from eventfleet.web import Access, Application, DomainServices, Limits, LocalAccess
from eventfleet.web.operation import Operation
from eventfleet.web.readiness import Check
from tests.simulation.in_memory_servers import START, InMemoryServers

PLACE = {"customer": "ann", "total": 1999, "currency": "EUR"}
SECRET = OctKey.import_key("a secret of more than 32 characters")
AUDIENCE = "https://events.example"
PROBLEM = "application/problem+json"


class StoringDecider:
    """Stores each event a minute after the one before, or answers with `outcome` or `error`.

    With a `disposition` it stores none, and tells those who wait by `notices`.
    """

    def __init__(self, memory: InMemoryServers) -> None:
        self.memory = memory
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        self.disposition: Disposition | None = None
        self.notices = MemoryNotices()
        self.asked: list[Any] = []

    async def decide(self, asked: Sequence[Any], deadline: datetime, answer: Answer) -> None:
        for index, each in enumerate(asked):
            self.asked.append(each)
            if self.error:
                raise self.error
            event = each.event
            if self.disposition:
                told = notices_of(Stage.APPENDED, [event], self.disposition)
                await self.notices.publish(told)
            elif not self.outcome:
                self.memory.clock.time += timedelta(minutes=1)
                named = {"type": event.type, "data": to_builtins(event.data)}
                newest = self.memory.domain.latest_schema_version(event.type)
                await self.memory.store(
                    event.id, event.aggregate_id, schema_version=newest, **named
                )
            answer(index, self.outcome or Accepted(event.id, f"{event.domain}.events/0"))


class Web:
    """An application that serves one domain, and a client of it."""

    service: EventService[Any]
    feed: EventFeed
    saver: SnapshotSaver
    """Saves the states that are queried."""

    def __init__(self, memory: InMemoryServers, storing: StoringDecider, app: Application) -> None:
        self.memory, self.storing, self.app = memory, storing, app
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    async def send(
        self, path: str = "o-1/commands/Place", body: Any = PLACE, **headers: str
    ) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"/domains/{self.memory.domain.name}/{path}"
        return await self.client.post(url, json=body, headers=named)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """Gets a path of the domain."""
        return await self.client.get(f"/domains/{self.memory.domain.name}/{path}", headers=headers)

    async def get_json(self, path: str) -> Any:
        found = await self.get(path)
        assert found.status_code == 200, found.text
        return found.json()


@asynccontextmanager
async def web(
    domain: Domain[Any] = orders,
    access: Access | None = None,
    limits: Limits | None = None,
    checks: Mapping[str, Check] | None = None,
    access_log: bool = False,
    sockets: Mapping[str, ASGIApp] | None = None,
    operations: Sequence[Operation] = (),
    origins: Sequence[str] = (),
) -> AsyncIterator[Web]:
    memory = InMemoryServers(domain)
    storing = StoringDecider(memory)
    queries = Querier(domain, memory.stores, memory.clock)
    feed = EventFeed(
        *(domain.name, domain.topics.stored, queries, memory.events, memory.events.registry),
        *(MemoryFollower(memory.log), 1),
    )
    async with (
        queries.running(),
        feed.running(),
        StageWaiters(storing.notices).running() as waiting,
        EventService(
            domain,
            storing,
            queries,
            SystemClock(),
            Uuid7Generator(),
            CommandFollower(domain.synchronous, memory.events, waiting),
        ) as service,
    ):
        parked = ParkedAggregates(domain.name, memory.dead_letters, memory.clock)
        services = DomainServices(domain, service, queries, memory.events, parked, feed)
        served = {domain.name: services}
        access = access or LocalAccess()
        app = Application(
            *(served, access, limits),
            checks=checks,
            operations=operations,
            sockets=sockets,
            access_log=access_log,
            origins=origins,
        )
        found = Web(memory, storing, app)
        found.saver, found.service, found.feed = queries.saver, service, feed
        async with found.client:
            yield found


def problem(found: httpx.Response) -> tuple[int, str]:
    """Returns the status of a problem and the last part of its type."""
    assert found.headers["content-type"] == PROBLEM, found.text
    body = found.json()
    assert body["status"] == found.status_code
    assert body["title"]
    return found.status_code, body["type"].rpartition(":")[2]


def token(key: Key = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """Signs a token that is valid for a long time, unless the claims differ."""
    known = {"exp": 4_000_000_000, "sub": "ann", "aud": AUDIENCE} | claims
    with warnings.catch_warnings(action="ignore"):
        return jwt.encode({"alg": algorithm}, known, key, algorithms=[algorithm])


__all__ = [
    "AUDIENCE",
    "PLACE",
    "SECRET",
    "START",
    "StoringDecider",
    "Web",
    "problem",
    "token",
    "web",
]
