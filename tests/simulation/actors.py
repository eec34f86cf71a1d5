"""Who takes part: owners of partitions, services, synchronous writers, a sweep, queries."""

from typing import Any

from msgspec.structs import replace

from eventfleet.roles.role import Role
from eventfleet.states.live_state import LiveState, take_snapshot
from eventfleet.stores.contracts import NO_HEAD, LogWriter
from eventfleet.stores.contracts.dead_letters import Discard, ParkedQuery
from eventfleet.stores.errors import Duplicate, Fenced, Misconfigured, ServerUnavailable
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord, Position
from eventfleet.topics.parked import ParkedAggregate
from eventfleet.topics.record import ProducerRecord
from tests.simulation.checker import BrokenInvariant, event_of, expected, trail
from tests.simulation.recording_domain import tally
from tests.simulation.scheduler import checkpoint
from tests.simulation.world import BIG, SOURCES, TOPICS, World

HEADERS = (("content-type", b"application/cloudevents+json"),)


# The owner of a partition, as a worker runs a role


async def own(world: World, name: str, partition: int) -> None:
    role = world.role(name, partition)
    offset: int | None = None
    # Whoever goes on, or is started again, once the log has grown back would see nothing amiss.
    while (name, partition) not in world.halted:
        try:
            if offset is None:
                offset = await role.open()
            offset = await _go_on(world, role, SOURCES[name], partition, offset)
        except world.scenario.parts.stubborn:
            await _reclaim(role)
        except ServerUnavailable:
            offset = None
            await checkpoint()
        except Fenced:
            return
        except Misconfigured as fault:
            if not world.log.lost(SOURCES[name], partition):
                raise
            world.scheduler.note("stops:", fault)
            world.halted.add((name, partition))
            world.scheduler.kill_others((name, partition))
            return


async def _reclaim(role: Any) -> None:
    """What an owner must not do: a new producer, and on from where memory says."""
    while True:
        try:
            await role._writer.open()
            return
        except ServerUnavailable:
            await checkpoint()


async def _tick(world: World, role: Role) -> None:
    report = await role.tick()
    if report.nudged:
        world.scheduler.count("a sweep beside the roles")


async def _go_on(world: World, role: Role, topic: str, partition: int, offset: int) -> int:
    await checkpoint()
    eager = world.scenario.puts or world.scenario.poison
    if world.scheduler.chance(0.5 if eager else 0.05):
        await _tick(world, role)
    committed = not world.scenario.parts.reads_uncommitted
    for _ in range(world.random.choice([0, 0, 15, 40])):
        await checkpoint()
    if world.scenario.parts.minds_offsets and not world.log.has(topic, partition, offset):
        raise ServerUnavailable(f"the log does not have offset {offset}")
    oldest = world.log.watermarks(topic, partition).oldest
    most = 2 if world.scenario.late else 6  # the more transactions, the more may be torn
    records = world.tail(topic, partition, max(offset, oldest), committed)[
        : world.random.randint(1, most)
    ]
    if not records:
        return offset
    last = records[-1].offset + 1
    world.scheduler.note("takes", f"{offset} to {last}")
    await role.process(records, last)
    return last


# Who makes events


def new_event(world: World, prefix: str, aggregate_id: str, version: int = 0) -> EventRecord:
    world.serial += 1
    n = f"{prefix}{world.serial}"
    data = {"n": n, "loud": world.scheduler.chance(0.5)}
    if world.scenario.poison:
        data["poison"] = world.scheduler.chance(world.scenario.poison)
    return EventRecord(
        id=n,
        type="Counted",
        domain=tally.name,
        aggregate_id=aggregate_id,
        time=world.clock.now(),
        data=data,
        version=version,
    )


def to_events(world: World, event: EventRecord) -> ProducerRecord:
    partition = world.partition(event.aggregate_id)
    return ProducerRecord(
        TOPICS.events, event.aggregate_id.encode(), encode(event), partition, HEADERS
    )


async def produce(world: World, record: ProducerRecord) -> None:
    """Produced until it is acknowledged: a lost acknowledgement makes a repeat."""
    writer: LogWriter = world.shaky(world.producer())
    while True:
        try:
            await writer.produce([record])
            return
        except ServerUnavailable:
            await checkpoint()


async def service(world: World, events: int) -> None:
    """Produces events without a look at the store; where `prev` counts, with that of the log."""
    for _ in range(events):
        aggregate_id = world.random.choice(world.aggregates)
        if world.scenario.marked:
            event = _following(world, aggregate_id)
        else:
            event = new_event(world, "e", aggregate_id)
        await checkpoint()
        await produce(world, to_events(world, event))
        if world.scenario.repeats and world.scheduler.chance(world.scenario.again):
            await produce_again(world, world.partition(aggregate_id))


def _following(world: World, aggregate_id: str) -> EventRecord:
    """A new event after the latest one, or one that was superseded, decided again."""
    log = world.whole(TOPICS.events)
    order = expected(log, marked=True)[aggregate_id]
    made = [event_of(r) for records in log.values() for r in records]
    superseded = [e for e in made if e.aggregate_id == aggregate_id and e.id not in order]
    if superseded and world.scheduler.chance(0.5):
        event = world.random.choice(superseded)
    else:
        event = new_event(world, "e", aggregate_id)
    return replace(event, prev=order[-1] if order else "")


async def repeater(world: World, times: int) -> None:
    """Produces records of the log again."""
    for _ in range(times):
        for _ in range(world.random.randint(1, 40)):
            await checkpoint()
        await produce_again(world, world.random.randrange(world.partitions))


async def produce_again(world: World, partition: int) -> None:
    """Produces one of the records of a partition again."""
    if records := world.tail(TOPICS.events, partition):
        again = world.random.choice(records[: max(1, len(records) - 3)])
        await produce(
            world, ProducerRecord(again.topic, again.key, again.value, partition, HEADERS)
        )


async def synchronous(world: World, commands: int) -> None:
    """Reads the head, puts one or two events after it, then produces the last of them."""
    for _ in range(commands):
        aggregate_id = world.random.choice(world.aggregates)
        try:
            events = await _put(world, aggregate_id)
        except ServerUnavailable:
            continue
        if world.scheduler.chance(0.3):
            return
        await produce(world, to_events(world, events[-1]))


async def _put(world: World, aggregate_id: str) -> list[EventRecord]:
    store = world.stores.events
    while True:
        head = (await store.heads([aggregate_id])).get(aggregate_id, NO_HEAD)
        many = world.random.choice([1, 1, 2, 3])
        events = [new_event(world, "s", aggregate_id, head.version + i) for i in range(1, many + 1)]
        world.put_ids |= {event.id for event in events}
        try:
            await store.put(events, world.partition(aggregate_id))
            world.acknowledged |= {event.id for event in events}
            return events
        except Duplicate:
            await checkpoint()


async def sweep(world: World, partition: int) -> None:
    """What the owner of a partition does between chunks, long enough to see an event twice."""
    clock = world.new_clock()
    sweep = world.sweep(partition, clock)
    for _ in range(2):
        try:
            await sweep.tick(world.committed("append", partition))
        except ServerUnavailable:
            return
        world.clock.advance(2_000)


# Where append is not part of it


async def feeder(world: World, events: int) -> None:
    """Stores events and emits them, each once and in order; the store may be ahead."""
    waiting: list[EventRecord] = []
    writer = world.producer()
    versions = dict.fromkeys(world.aggregates, 0)
    offsets = dict.fromkeys(range(world.partitions), 0)
    for left in range(events, 0, -1):
        aggregate_id = world.random.choice(world.aggregates)
        versions[aggregate_id] += 1
        partition = world.partition(aggregate_id)
        event = new_event(world, "f", aggregate_id, versions[aggregate_id])
        event = replace(event, position=str(Position(0, partition, offsets[partition])))
        offsets[partition] += 1
        await world.events.write([event])
        waiting.append(event)
        while waiting and (left == 1 or world.scheduler.chance(0.6)):
            event = waiting.pop(0)
            partition = world.partition(event.aggregate_id)
            key = event.aggregate_id.encode()
            await writer.produce(
                [ProducerRecord(TOPICS.stored, key, encode(event), partition, HEADERS)]
            )


async def stutterer(world: World, times: int) -> None:
    """Emits stored events again, as a broker without transactions makes happen."""
    for _ in range(times):
        for _ in range(world.random.randint(1, 60)):
            await checkpoint()
        partition = world.random.randrange(world.partitions)
        records = world.tail(TOPICS.stored, partition)
        if records:
            again = world.random.choice(records)
            out = ProducerRecord(again.topic, again.key, again.value, partition, again.headers)
            await world.producer().produce([out])


async def operator(world: World, steps: int) -> None:
    """Asks for redrives before the code is mended and after, and for discards."""
    letters = world.shaky(world.letters)
    for _ in range(steps):
        for _ in range(world.random.randint(1, 30)):
            await checkpoint()
        if world.mends and world.scheduler.chance(0.2):
            world.scheduler.tell("the team", "mends its code")
            world.code.mended = True
        try:
            if parked := await letters.find(ParkedQuery(), 100):
                each = world.random.choice(parked)
                # Whoever discards what others may have folded by then must stop those first.
                discards = not world.mends or each.role == "relay"
                await request(world, letters, each, discards and world.scheduler.chance(0.5))
        except ServerUnavailable:
            continue


async def request(world: World, letters: Any, parked: ParkedAggregate, discards: bool) -> None:
    """Ask for a redrive, or for a discard."""
    if discards:
        world.discards.add((parked.role, parked.event_id))
    discard = Discard("it is a mistake", "op", world.clock.now()) if discards else None
    world.scheduler.note("asks for", (parked, discard))
    await letters.request(parked, discard)


async def asker(world: World, queries: int) -> None:
    """Asks for latest states, which are saved as snapshots; each is the fold of what is stored."""
    for _ in range(queries):
        for _ in range(world.random.randint(1, 40)):
            await checkpoint()
        aggregate_id = world.random.choice(world.aggregates)
        try:
            answer = await world.querier.latest(aggregate_id)
            if answer:
                live = LiveState(aggregate_id, answer.state, answer.version)
                shot = take_snapshot(tally, live, world.clock.now(), BIG)
                await world.stores.snapshots.save([shot] if shot else [])
        except ServerUnavailable:
            continue
        if answer:
            fold = trail(world.stored()[aggregate_id])[: answer.version]
            if list(answer.state.trail) != fold:
                raise BrokenInvariant("query is not the fold", f"{answer}, the fold is {fold}")
