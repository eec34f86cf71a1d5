"""Our fold: the snapshot role, chunk by chunk, over in-memory stores; no snapshot falls due."""

from dataclasses import replace

from benchmarks.contenders.fold_data import make_records
from benchmarks.contenders.task import (
    ContenderTask,
    Result,
    Stopwatch,
    read_task,
    run,
    write_result,
)
from benchmarks.data import declare_ledger
from eventfleet.roles.parking import Parking
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.snapshot_rules import every
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryLog, MemoryTransactionalWriter
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.names import Topics
from eventfleet.topics.topic_specs import TopicSpec


async def main(task: ContenderTask) -> None:
    clock, records = Stopwatch(), make_records(task)
    source, log = Topics.of(task.domain, "").stored, MemoryLog()
    log.create(TopicSpec(source, 1, 1))
    role = SnapshotRole(
        replace(declare_ledger(task.domain), snapshot=every(2 * task.records)),
        0,
        DomainStores(MemoryEvents(), MemorySnapshots()),
        MemoryTransactionalWriter(log, task.group, source, 0),
        Parking(Topics.of(task.domain, ""), "snapshot", 0, MemoryDeadLetters(), SystemClock()),
        SystemClock(),
        cached=task.extra["aggregates"],
        limit=1_000_000,
    )
    await role.open()
    await role.process(records.warm_up, len(records.warm_up))
    value_bytes = 0
    clock.start()
    for start in range(0, len(records.rest), task.chunk):
        chunk = records.rest[start : start + task.chunk]
        value_bytes += sum(len(record.value or b"") for record in chunk)
        await role.process(chunk, chunk[-1].offset + 1)
    clock.stop()
    settings = {"chunk": str(task.chunk), "decode": "orjson, then msgspec: every check"}
    write_result(Result(len(records.rest), clock.seconds, clock.cpu, value_bytes, settings))


if __name__ == "__main__":
    run(main(read_task()))
