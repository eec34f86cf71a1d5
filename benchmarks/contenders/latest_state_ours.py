"""Latest states through our Querier: append 20 events, query the state, repeat.

Seconds and CPU are those of the queries alone; documents are counted in the server's replies.
"""

import time
from collections import Counter
from functools import reduce
from statistics import median, quantiles
from typing import Any

from pymongo import monitoring

from benchmarks.contenders.command_data import make_settings
from benchmarks.contenders.latest_state_data import APPENDED_EVENTS, account_id, make_history
from benchmarks.contenders.task import ContenderTask, Result, read_task, run, write_result
from benchmarks.data import Account, declare_ledger
from eventfleet.runtime import connections
from eventfleet.states.querier import Querier, StateAt
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores
from eventfleet.topics.event import EventRecord


class ReadCounter(monitoring.CommandListener):
    """Counts the documents read from each collection; projected reads (keys only) count apart."""

    def __init__(self) -> None:
        self.current: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._key_requests: set[int] = set()

    def start_query(self) -> None:
        self.current.clear()

    def end_query(self) -> None:
        self.most |= self.current

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if "projection" in event.command:
            self._key_requests.add(event.request_id)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        cursor: dict[str, Any] = event.reply.get("cursor", {})
        collection = str(cursor.get("ns", "")).rpartition(".")[2]
        collection = f"{collection}_keys" if event.request_id in self._key_requests else collection
        documents = [*cursor.get("firstBatch", ()), *cursor.get("nextBatch", ())]
        if documents:
            self.current[f"{collection}_read"] += len(documents)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Ignore a failed command: it reads no documents."""


class QueriedAccount:
    """An account, its events, and the latencies of its queries."""

    def __init__(self, task: ContenderTask, stores: DomainStores, counter: ReadCounter) -> None:
        self._size, self._counter, self._stores = task.extra["size"], counter, stores
        self._account = account_id(self._size)
        self._domain = declare_ledger(task.domain)
        self._events = make_history(task.domain, self._size)
        self._querier = Querier(self._domain, stores, SystemClock())
        self._version = self._size
        self.seconds: list[float] = []
        self.cpu = 0.0

    async def append_and_query(self) -> None:
        """Append events and query the state."""
        version = self._version + APPENDED_EVENTS
        new_events = self._events[self._version : version]
        await self._stores.events.write(new_events)
        self._version = version
        self._counter.start_query()
        started, cpu_started = time.perf_counter(), time.process_time()
        async with self._querier.running():  # saves the snapshot at its end, behind the answer
            found = await self._querier.latest(self._account)
            self.seconds.append(time.perf_counter() - started)
            self._counter.end_query()
        self.cpu += time.process_time() - cpu_started
        if found is None or found.version != version:
            raise RuntimeError(f"the latest state is not that of version {version}: {found}")

    def reset(self) -> None:
        """Discard the measurements of the warm-up."""
        self.seconds, self.cpu = [], 0.0
        self._counter.most.clear()

    async def check(self) -> None:
        """Raise RuntimeError unless the state is the fold of all events."""
        found: StateAt[Account] | None = await self._querier.latest(self._account)

        def fold(state: Account, event: EventRecord) -> Account:
            return self._domain.fold(state, event)

        if found is None or found.state != reduce(fold, self._events, Account()):
            raise RuntimeError(f"the latest state is not the fold of its events: {found}")


async def main(task: ContenderTask) -> None:
    settings, counter = make_settings(task), ReadCounter()
    monitoring.register(counter)
    async with connections.stores(settings, {task.domain: declare_ledger(task.domain)}) as stores:
        account = QueriedAccount(task, stores[task.domain], counter)
        await account.append_and_query()
        account.reset()
        for _ in range(task.records):
            await account.append_and_query()
        most = {name: float(count) for name, count in counter.most.items()}
        await account.check()
    times = account.seconds
    measures = {"p50": median(times), "p99": quantiles(times, n=100)[98]} | most
    reported_settings = {"appended before each query": str(APPENDED_EVENTS), "snapshots kept": "3"}
    write_result(Result(len(times), sum(times), account.cpu, 0, reported_settings, measures))


if __name__ == "__main__":
    run(main(read_task()))
