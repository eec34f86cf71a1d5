"""What append does for the project role: it stores events and emits them in order."""

from eventfleet.model.payloads import Event
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import ProducerRecord
from tests.simulation.projection_world import TOPIC, ProjectionWorld
from tests.simulation.scheduler import checkpoint
from tests.unit.view_fixture import Placed, random_events


class Feed:
    """Random events of some accounts; the store may be ahead of `.stored`."""

    def __init__(self, world: ProjectionWorld) -> None:
        self.world, self.scheduler, self.random = world, world.scheduler, world.random
        self._offsets = [0] * world.partitions
        self._waiting: list[ProducerRecord] = []
        self._last = ""

    async def run(self, count: int) -> None:
        for name, event in random_events(self.random, count, self.world.scenario.accounts):
            for _ in range(self.random.choice([0, 0, 3, 10, 30])):
                await checkpoint()
            await self._store(name, event)
            while self._waiting and self.scheduler.chance(0.7):
                await self._emit(self._waiting.pop(0))
        for record in self._waiting:
            await self._emit(record)

    async def _store(self, name: str, event: Event) -> None:
        world = self.world
        placed = Placed(name, world.histories.version(name) + 1, event)
        record = self._record(placed)
        await checkpoint()
        if self.scheduler.chance(world.scenario.poison):
            world.code.poison(name, placed.version)
            self.scheduler.note("poisons", placed)
        world.histories.add(placed)
        await world.events.write([record])
        self.scheduler.note("stores", record)
        value, partition = encode(record), partition_of(name, world.partitions)
        world.placed[value] = name, placed.version
        self._waiting.append(ProducerRecord(TOPIC, name.encode(), value, partition))

    def _record(self, placed: Placed) -> EventRecord:
        name, version, event, _ = placed
        return EventRecord(
            id=f"e{len(self.world.histories.happened)}",
            type=type(event).__name__,
            domain="till",
            aggregate_id=name,
            version=version,
            time=self.world.clock.now(),
            data={each: getattr(event, each) for each in event.__struct_fields__},
            position=self._position(name),
            reply_to="here",
        )

    def _position(self, name: str) -> str:
        """The next position; an aggregate's events may share one."""
        partition = partition_of(name, self.world.partitions)
        if name != self._last or self.scheduler.chance(0.7):
            self._offsets[partition] += 1
        self._last = name
        return f"0-{partition}-{self._offsets[partition]}"

    async def _emit(self, record: ProducerRecord) -> None:
        """Emit an event, and perhaps another one once more, as without transactions may happen."""
        await checkpoint()
        self.world.log.append(record)
        self.scheduler.note("emits", record)
        if self.scheduler.chance(self.world.scenario.repeats):
            again = self.random.choice(self.world.records(record.partition or 0)[-4:])
            self.world.log.append(ProducerRecord(TOPIC, again.key, again.value, record.partition))
            self.scheduler.note("emits once more", again)
