"""Latest states by our Querier: 20 events are appended, the state is asked for, and so on.

Seconds and CPU are those of the queries alone; documents are counted by what the server sends.
"""

import time
from collections import Counter
from functools import reduce
from statistics import median, quantiles
from typing import Any

from pymongo import monitoring

from benchmarks.contenders.command_data import settings_of
from benchmarks.contenders.latest_state_data import APPENDED, account, history
from benchmarks.contenders.task import Result, Task, run, task, told
from benchmarks.data import Account, ledger
from eventfleet.runtime import connections
from eventfleet.states.querier import Querier, StateAt
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores
from eventfleet.topics.event import EventRecord


class Reads(monitoring.CommandListener):
    """Documents that came of each collection; those of which only keys were asked for, apart."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._keys: set[int] = set()

    def query_begins(self) -> None:
        self.now.clear()

    def query_ends(self) -> None:
        self.most |= self.now

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if "projection" in event.command:
            self._keys.add(event.request_id)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        cursor: dict[str, Any] = event.reply.get("cursor", {})
        kind = str(cursor.get("ns", "")).rpartition(".")[2]
        kind = f"{kind}_keys" if event.request_id in self._keys else kind
        documents = [*cursor.get("firstBatch", ()), *cursor.get("nextBatch", ())]
        if documents:
            self.now[f"{kind}_read"] += len(documents)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Reads nothing."""


class Asking:
    """One account, its events, and how long each query took."""

    def __init__(self, task: Task, opened: DomainStores, reads: Reads) -> None:
        self._size, self._reads, self._opened = task.more["size"], reads, opened
        self._account = account(self._size)
        self._domain = ledger(task.domain)
        self._events = history(task.domain, self._size)
        self._querier = Querier(self._domain, opened, SystemClock())
        self._version = self._size
        self.seconds: list[float] = []
        self.cpu = 0.0

    async def one(self) -> None:
        """Append, and ask."""
        upto = self._version + APPENDED
        fresh = self._events[self._version : upto]
        await self._opened.events.write(fresh)
        self._version = upto
        self._reads.query_begins()
        began, used = time.perf_counter(), time.process_time()
        found = await self._querier.latest(self._account)
        self.seconds.append(time.perf_counter() - began)
        self.cpu += time.process_time() - used
        self._reads.query_ends()
        if found is None or found.version != upto:
            raise RuntimeError(f"the latest state is not that of version {upto}: {found}")

    def forget(self) -> None:
        """What was so far was only to get warm."""
        self.seconds, self.cpu = [], 0.0
        self._reads.most.clear()

    async def check(self) -> None:
        """RuntimeError unless the state is the fold of all events."""
        found: StateAt[Account] | None = await self._querier.latest(self._account)

        def fold(state: Account, event: EventRecord) -> Account:
            return self._domain.fold(state, event)

        if found is None or found.state != reduce(fold, self._events, Account()):
            raise RuntimeError(f"the latest state is not the fold of its events: {found}")


async def main(task: Task) -> None:
    settings, reads = settings_of(task), Reads()
    monitoring.register(reads)
    async with connections.stores(settings, {task.domain: ledger(task.domain)}) as stores:
        asking = Asking(task, stores[task.domain], reads)
        await asking.one()
        asking.forget()
        for _ in range(task.records):
            await asking.one()
        most = {name: float(count) for name, count in reads.most.items()}
        await asking.check()
    times = asking.seconds
    measures = {"p50": median(times), "p99": quantiles(times, n=100)[98]} | most
    shown = {"appended before each query": str(APPENDED), "snapshots kept": "3"}
    told(Result(len(times), sum(times), asking.cpu, 0, shown, measures))


if __name__ == "__main__":
    run(main(task()))
