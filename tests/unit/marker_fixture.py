"""The marker protocol on servers in memory: time passes, and append works, where somebody waits."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from eventfleet.deciders.append_watch import AppendWatch
from eventfleet.deciders.incarnation_reader import IncarnationReader
from eventfleet.deciders.lag_guard import LagGuard
from eventfleet.deciders.marker_decider import MarkerDecider
from eventfleet.deciders.outcomes import Outcome
from eventfleet.deciders.proposed_event import ProposedEvent, propose_event
from eventfleet.domains.orders import orders
from eventfleet.model.domain import Domain
from eventfleet.roles.append import AppendRole
from eventfleet.stores.contracts import UNKNOWN_INCARNATION
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.memory.log import MemoryProducer, MemoryReader, MemoryTransactionalWriter
from eventfleet.stores.memory.markers import MemoryMarkers, MemoryRedis
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import consumer_group
from tests.simulation.in_memory_servers import InMemoryServers
from tests.simulation.scheduler import drive

PREFIX = "unit"
TERMS = MarkerTimeouts(expiry=600.0, lease=2.0, memory=600.0)
BODIES: dict[str, dict[str, Any]] = {
    "Place": {"customer": "ann", "total": 1999, "currency": "EUR"},
    "Pay": {"amount": 1999},
    "Pack": {"parcels": 1},
}


class Failing:
    """A server whose named methods fail for so many calls: before they do it, or after."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.before: dict[str, int] = {}
        self.after: dict[str, int] = {}
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, method: str) -> Any:
        async def call(*args: Any, **options: Any) -> Any:
            self.calls.append((method, args[0] if args else None))
            self._strike(self.before, method)
            result = await getattr(self._inner, method)(*args, **options)
            self._strike(self.after, method)
            return result

        return call

    def _strike(self, failures: dict[str, int], method: str) -> None:
        if failures.get(method, 0):
            failures[method] -= 1
            raise ServerUnavailable(f"{method} failed")

    def asked(self, method: str) -> list[Any]:
        return [argument for name, argument in self.calls if name == method]


class WorldClock:
    """To wait is to let the guard and append work, where they do."""

    def __init__(self, desk: "MarkerFixture") -> None:
        self._desk = desk

    def now(self) -> Any:
        return self._desk.memory.clock.time

    def steady(self) -> Any:
        return self._desk.memory.clock.steady()

    async def sleep(self, seconds: float) -> None:
        await self._desk.pass_time(seconds)


class MarkerFixture:
    """One service, its servers, and the owner of the only partition."""

    def __init__(self, domain: Domain[Any] = orders, *, begins: bool = False) -> None:
        """`begins`: no event was ever produced, so the present life of Redis is the first."""
        self.domain, self.memory = domain, InMemoryServers(domain)
        if not begins:
            drive(self.memory.events.registry.register_first_incarnation(UNKNOWN_INCARNATION))
        self.redis_seconds_ahead = 0.0
        self.redis = MemoryRedis(
            lambda: self.memory.clock.time.timestamp() + self.redis_seconds_ahead
        )
        self.markers = Failing(MemoryMarkers(self.redis, domain.name, TERMS))
        self.producer = Failing(MemoryProducer(self.memory.log))
        self.store = Failing(self.memory.events)
        self.appends = True
        self._append: AppendRole | None = None
        self._offset = 0
        self.watch: AppendWatch | None = None
        self.marking = self.service()

    def service(self) -> MarkerDecider:
        """Another service on the same servers becomes the one that is asked."""
        events, reader = self.memory.events, MemoryReader(self.memory.log)
        incarnations = IncarnationReader(
            *(self.markers, events.registry, reader, self.domain.topics.events, events)
        )
        self.guard = LagGuard(
            *(incarnations, reader, events, WorldClock(self)),
            group=consumer_group(PREFIX, self.domain.name, "append"),
            topic=self.domain.topics.events,
            expiry=TERMS.expiry,
        )
        self.marking = MarkerDecider(
            *(self.store, self.markers, self.producer, self.guard, WorldClock(self)),
            topic=self.domain.topics.events,
            partitions=1,
            chance=lambda: 0.5,
            watch=self.watch,
            letters=self.memory.dead_letters,
        )
        return self.marking

    # What happens meanwhile

    async def pass_time(self, seconds: float) -> None:
        self.memory.clock.time += timedelta(seconds=seconds)
        if self.appends:
            await self.append()
        await self.guard.update()

    async def grow_old(self) -> None:
        """The life of Redis is older than the expiry, and the guard has seen it."""
        await self.markers.incarnation()
        await self.pass_time(TERMS.expiry + 1)

    async def append(self) -> None:
        if not self._append:
            owner = consumer_group(PREFIX, self.domain.name, "append"), self.memory.topics.events, 0
            writer = MemoryTransactionalWriter(self.memory.log, *owner)
            self._append = AppendRole(
                *(
                    self.domain,
                    0,
                    self.memory.events,
                    writer,
                    self.memory.clock,
                    self.memory.append_parking(),
                ),
                cached=10,
            )
            await self._append.open()
        records = self.memory.records(self.memory.topics.events)[self._offset :]
        if records:
            self._offset += len(records)
            await self._append.process(records, self._offset)

    # Commands

    def propose_new(self, name: str, id: str = "") -> ProposedEvent:
        """Of a command whose id was made for it."""
        return self.propose(name, id)._replace(new=True)

    def propose(
        self, name: str, id: str = "", aggregate_id: str = "a", **data: Any
    ) -> ProposedEvent:
        command = EventRecord(
            id=id or f"{name}-{aggregate_id}",
            type=name,
            domain=self.domain.name,
            aggregate_id=aggregate_id,
            time=self.memory.clock.now(),
            data=data or BODIES.get(name, {}),
        )
        return propose_event(self.domain, command)

    async def send(self, name: str, id: str = "", aggregate_id: str = "a", **data: Any) -> Outcome:
        (outcome,) = await self.decide([self.propose(name, id, aggregate_id, **data)])
        return outcome

    async def decide(
        self, commands: Sequence[ProposedEvent], seconds: float = 10.0
    ) -> list[Outcome]:
        """The outcomes in the order of the commands, each answered once."""
        outcomes: dict[int, Outcome] = {}

        def answer(index: int, outcome: Outcome) -> None:
            assert index not in outcomes
            outcomes[index] = outcome

        deadline = self.memory.clock.steady() + timedelta(seconds=seconds)
        await self.marking.decide(commands, deadline, answer)
        return [outcomes[index] for index in range(len(commands))]

    # What is there

    def produced(self) -> list[EventRecord]:
        return self.memory.seen(self.memory.topics.events)

    def types(self) -> list[str]:
        return [event.type for event in self.produced()]
