"""Our fold: the snapshot role, chunk by chunk, over servers in memory; no snapshot falls due."""

from dataclasses import replace

from benchmarks.contenders.fold_data import records
from benchmarks.contenders.task import Clock, Result, Task, run, task, told
from benchmarks.data import ledger
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.snapshot_rules import every
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryLog, MemoryTransactionalWriter
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.stores.parked import NoParkedAggregates
from eventfleet.topics.names import Topics


async def main(task: Task) -> None:
    clock, folded = Clock(), records(task)
    role = SnapshotRole(
        replace(ledger(task.domain), snapshot=every(2 * task.records)),
        0,
        DomainStores(MemoryEvents(), MemorySnapshots()),
        MemoryTransactionalWriter(MemoryLog(), task.group, Topics.of(task.domain).stored, 0),
        NoParkedAggregates(),
        SystemClock(),
        cached=task.more["aggregates"],
        limit=1_000_000,
    )
    await role.open()
    await role.chunk(folded.warm, len(folded.warm))
    check = 0
    clock.start()
    for start in range(0, len(folded.rest), task.chunk):
        chunk = folded.rest[start : start + task.chunk]
        check += sum(len(record.value or b"") for record in chunk)
        await role.chunk(chunk, chunk[-1].offset + 1)
    clock.stop()
    settings = {"chunk": str(task.chunk), "decode": "orjson, then msgspec: every check"}
    told(Result(len(folded.rest), clock.seconds, clock.cpu, check, settings))


if __name__ == "__main__":
    run(main(task()))
