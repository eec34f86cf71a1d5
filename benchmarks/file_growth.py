"""`python -m benchmarks.file_growth` measures a fleet's file of many events beside a small one.

The roles fill it with the sample's orders, as they take whatever they are sent. Times are medians
of single calls, one of each file by turns, in a process that runs the roles of both. Both files
have been in use before: a process that opens a file again knows less about its orders' last events.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from dataclasses import replace as with_changes
from functools import lru_cache, partial
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import apsw
import click
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from benchmarks.contenders.command_data import sample_commands, to_record
from benchmarks.file_setup import settle, until
from benchmarks.scenarios.lone_synchronous import declare_accounts
from benchmarks.timing import in_turns
from eventfleet.commands import Accepted, EventService, Outcome, event_service
from eventfleet.deciders.proposed_event import propose_event
from eventfleet.domains.orders import orders
from eventfleet.fleet import running_roles
from eventfleet.model.command_rules import START
from eventfleet.runtime import connections
from eventfleet.runtime.event_loop import run
from eventfleet.runtime.file_backend import data_file
from eventfleet.runtime.settings import Settings
from eventfleet.snapshot_rules import every
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import consumer_group

EVENTS, CALLS = 2_000_000, 500
SAMPLE_ORDERS = 2_000
BATCH_EVENTS = 10_000
MAX_LAG_EVENTS = 50_000
LONG_HISTORIES, LONG_EVENTS, SNAPSHOT_EVENTS = 10, 1_000, 100
WARM_ACCOUNTS, WARM_UP_CALLS = 20, 20
MOST_GROWTH = 1.3

shop = with_changes(orders, views=())
accounts = with_changes(declare_accounts("accounts"), snapshot=every(SNAPSHOT_EVENTS))
DOMAINS = (shop, accounts)

BYTES_BY_TABLE = """
SELECT tbl_name, sum(pgsize) FROM dbstat('main', 1) JOIN sqlite_schema USING (name)
GROUP BY tbl_name
"""
BYTES_BY_TOPIC = """
SELECT topic, total(octet_length(key) + octet_length(value) + coalesce(octet_length(headers), 0))
FROM log_records JOIN log_partitions ON partition_id = id GROUP BY topic
"""


# Filling


@lru_cache
def sample_events() -> list[EventRecord]:
    """Return the events of the sample's accepted commands, each with the id of the one before."""
    latest: dict[str, EventRecord] = {}
    found: dict[str, EventRecord] = {}
    for command in sample_commands(SAMPLE_ORDERS):
        event, allowed, *_ = propose_event(shop, command)
        before = latest.get(event.aggregate_id)
        is_allowed = allowed is None or (before.type if before else START) in allowed
        if event.id not in found and is_allowed:
            event = replace(event, prev=before.id if before else "")
            found[event.id] = latest[event.aggregate_id] = event
    return [*found.values()]


def generate_events() -> Iterator[EventRecord]:
    """Yield the sample's events again and again, each time of other orders."""
    for block in count():

        def renamed(id: str | None, block: int = block) -> str | None:
            return f"{block:08x}{id[8:]}" if id else id

        for event in sample_events():
            number = block * SAMPLE_ORDERS + int(event.aggregate_id.removeprefix("order-"))
            yield replace(
                event,
                id=renamed(event.id) or "",
                aggregate_id=f"order-{number:07}",
                prev=renamed(event.prev),
                correlation_id=renamed(event.correlation_id),
                causation_id=renamed(event.causation_id),
            )


async def fill(settings: Settings, events: int) -> None:
    """Produce events of orders, and wait until all roles have done their work."""
    group = consumer_group(settings.group_prefix, shop.name, "append")
    produced, source = 0, islice(generate_events(), events)
    async with (
        running_roles(settings, DOMAINS),
        connections.log_writer(settings) as writer,
        connections.log_reader(settings) as reader,
        connections.stores(settings, [each.name for each in DOMAINS]) as stores,
    ):

        async def keeps_up() -> bool:
            appended = sum((await reader.committed(group, shop.topics.events)).values())
            return produced - appended <= MAX_LAG_EVENTS

        while batch := [
            to_record(shop.topics.events, each) for each in islice(source, BATCH_EVENTS)
        ]:
            await writer.produce(batch)
            produced += len(batch)
            if produced % (10 * BATCH_EVENTS) == 0:
                click.echo(f"{produced:,} of {events:,} events are produced", err=True)
            await until(keeps_up)
        await settle(settings, DOMAINS)
        if (stored := await stores[shop.name].events.count()) != events:
            raise click.ClickException(f"{stored:,} events are stored, not {events:,}")


# Bytes


def measure_bytes(file: Path, events: int) -> Table:
    """Measure the file's bytes for an event, by what they are for."""
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        tables: dict[str, int] = dict(connection.execute(BYTES_BY_TABLE))
        topics: dict[str, float] = dict(connection.execute(BYTES_BY_TOPIC))
    finally:
        connection.close()
    table = Table("part", "bytes an event", title=f"the sample's orders, {events:,} events")
    for part, size in divide_bytes(tables, topics, file.stat().st_size).items():
        table.add_row(part, f"{size / events:,.0f}")
    return table


def divide_bytes(
    tables: Mapping[str, int], topics: Mapping[str, float], file: int
) -> dict[str, float]:
    """Divide the bytes of a file; those of the log by the lengths of its topics' records."""
    log = sum(size for name, size in tables.items() if name.startswith("log_"))
    own = {f"{shop.name}.{kind}": kind for kind in ("events", "stored", "snapshots")}
    by_kind = dict.fromkeys([*own.values(), "routes"], 0.0)
    for topic, size in topics.items():
        by_kind[own.get(topic, "routes")] += log * size / (sum(topics.values()) or 1)
    parts = {
        "the file, with the log": float(file),
        "the file, without the log": float(file - log),
        "events and their indexes": float(tables.get("events", 0)),
        "snapshots": float(tables.get("snapshots", 0)),
    }
    return parts | {f"log: {kind}": size for kind, size in by_kind.items()}


# Times


@dataclass(frozen=True)
class Fleet:
    """A file's services, and the calls that are timed; `queries` keeps next to no states."""

    orders: EventService[Any]
    accounts: EventService[Any]
    queries: EventService[Any]
    placed: list[str] = field(default_factory=list)

    async def place(self, _: int) -> None:
        self.placed.append(f"order-{uuid4().hex}")
        data = {"customer": "ann", "total": 1999, "currency": "EUR"}
        _require_accepted(await self.orders.send(self.placed[-1], "Place", data))

    async def pay(self, _: int) -> None:
        _require_accepted(await self.orders.send(self.placed.pop(), "Pay", {"amount": 1999}))

    async def open(self, _: int) -> None:
        await self._put_in(f"account-{uuid4().hex}")

    async def put_in(self, number: int) -> None:
        await self._put_in(f"warm-{number % WARM_ACCOUNTS}")

    async def query(self, number: int) -> None:
        found = await self.queries.latest(f"long-{number % LONG_HISTORIES}")
        if found is None or found.version != LONG_EVENTS:
            raise click.ClickException(f"a state is {found}, not of {LONG_EVENTS} events")

    async def make_histories(self) -> None:
        """Fill the accounts that are queried, and open those that are kept in memory."""

        async def make(id: str, events: int) -> None:
            for _ in range(events):
                await self._put_in(id)

        long = [make(f"long-{number}", LONG_EVENTS) for number in range(LONG_HISTORIES)]
        await asyncio.gather(*long, *(make(f"warm-{n}", 2) for n in range(WARM_ACCOUNTS)))

    async def _put_in(self, id: str) -> None:
        _require_accepted(await self.accounts.send(id, "PutIn", {"cents": 7}))


def _require_accepted(outcome: Outcome) -> None:
    if not isinstance(outcome, Accepted):
        raise click.ClickException(f"a command was not accepted: {outcome}")


CALLS_OF: Mapping[str, Callable[[Fleet, int], Awaitable[None]]] = {
    "asynchronous command, a new order": Fleet.place,
    "asynchronous command, an order in memory": Fleet.pay,
    "synchronous command, a new account": Fleet.open,
    "synchronous command, an account in memory": Fleet.put_in,
    f"state after {LONG_EVENTS:,} events": Fleet.query,
}


@asynccontextmanager
async def open_fleet(settings: Settings) -> AsyncIterator[Fleet]:
    """Run the roles on a file, and open its services."""
    forgetful = settings.model_copy(update={"cached_aggregates": 1})
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running_roles(settings, DOMAINS))
        services = [
            await stack.enter_async_context(event_service(*opened))
            for opened in ((settings, shop), (settings, accounts), (forgetful, accounts))
        ]
        yield Fleet(*services)


async def measure_times(small: Settings, large: Settings, calls: int) -> tuple[Table, bool]:
    """Measure calls of both files; False where one takes more than MOST_GROWTH times as long."""
    table = Table("call", "small file", "large file", "ratio", title="medians")
    are_flat = True
    async with open_fleet(small) as few, open_fleet(large) as many:
        for fleet, settings in ((few, small), (many, large)):
            await fleet.make_histories()
            await settle(settings, DOMAINS)
        for what, call in CALLS_OF.items():
            both = partial(call, few), partial(call, many)
            await in_turns(both, WARM_UP_CALLS)
            are_flat &= add_growth(table, what, *await in_turns(both, calls))
    return table, are_flat


def add_growth(table: Table, what: str, small: float, large: float) -> bool:
    """Add a row; False: the call takes too long in the large file."""
    ratio = large / small
    is_flat = ratio <= MOST_GROWTH
    mark = "" if is_flat else f" above {MOST_GROWTH}"
    table.add_row(what, f"{small:.2f} ms", f"{large:.2f} ms", f"{ratio:.2f}{mark}")
    return is_flat


async def measure(folder: Path, events: int, calls: int, console: Console) -> bool:
    """Fill two files in a folder, and print what was measured; False: see `measure_times`."""
    small, large = (
        Settings(data=str(folder / name), metrics_port=0) for name in ("small", "large")
    )
    started = time.monotonic()
    await fill(small, 1)
    await fill(large, events)
    click.echo(f"filled in {time.monotonic() - started:,.0f} s", err=True)
    console.print(measure_bytes(data_file(large), events))
    table, are_flat = await measure_times(small, large, calls)
    console.print(table)
    return are_flat


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--events", envvar="EVENTS", default=EVENTS, show_default=True)
@click.option("--calls", envvar="CALLS", default=CALLS, show_default=True)
def main(events: int, calls: int) -> None:
    """Measure; EVENTS and CALLS (of each kind and file) are environment variables too.

    TMPDIR names the disk of the files. The exit status is 1 when a call takes more than 1.3 times
    as long in the large file as in the small one.
    """
    console = Console(highlight=False)
    with TemporaryDirectory(prefix="eventfleet-growth-") as folder:
        are_flat = run(measure(Path(folder), events, calls, console))
    raise SystemExit(not are_flat)


if __name__ == "__main__":
    main()
