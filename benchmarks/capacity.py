"""`python -m benchmarks.capacity` computes what a load needs: workers, partitions, servers, bytes.

The costs of a record and the rate of a store are those of docs/scaling.md, unless options say
otherwise. The sizes are those of the sample's orders. Nothing is measured and no server is needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil

import bson
import click
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from benchmarks.autoscale.load import generate_commands
from eventfleet.deciders.proposed_event import propose_event
from eventfleet.domains.orders import orders
from eventfleet.stores.mongo.documents import placed_document
from eventfleet.stores.mongo.indexes import POSITIONS, VERSIONS
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.event import Position
from eventfleet.topics.reply import encode_reply

COSTS = {"command": 34.0, "append": 14.0, "snapshot": 6.0, "relay": 4.5}
"""CPU microseconds a record, from `make bench`."""
BUSY = 0.7
STORE_RATE = 15_000
CHUNK_RECORDS = 2_000
CHUNK_SECONDS = 0.02
"""The shortest time from one commit of a partition to the next."""
REPLICAS = 3
LEAST_PARTITIONS = 8
PARTITIONS_PER_WORKER = 4
RELAYED = 0.4
"""The share of events that a route takes."""
RECORD_OVERHEAD_BYTES = 12
SAMPLE_COMMANDS = 2_000
DAY_SECONDS = 86_400
LOADS = (10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Sizes:
    """Bytes: of the records on Kafka with keys and headers, of a document, of its index entries."""

    command: float
    reply: float
    event: float
    stored: float
    document: float
    index: float


@dataclass(frozen=True)
class Capacity:
    """What a load of so many commands a second needs, all of them accepted; bytes a second."""

    load: int
    workers: Mapping[str, int]
    partitions: int
    least_transactions: int
    most_transactions: int
    store_servers: int
    kafka_in: float
    kafka_out: float
    kafka_replication: float
    kafka_disk: float
    store_in: float
    store_disk: float


def compute(
    load: int, costs: Mapping[str, float], store_rate: int, chunk: int, sizes: Sizes
) -> Capacity:
    """Compute the capacity; docs/scaling.md has the formulas in words."""
    workers = {role: ceil(load * cost / 1e6 / BUSY) for role, cost in costs.items()}
    partitions = LEAST_PARTITIONS
    while partitions < PARTITIONS_PER_WORKER * max(workers.values()):
        partitions *= 2
    written = sizes.command + sizes.reply + sizes.event + sizes.stored * (1 + RELAYED)
    read = sizes.command + sizes.event + 2 * sizes.stored
    most = min(load, ceil(partitions / CHUNK_SECONDS))
    return Capacity(
        load,
        workers,
        partitions,
        least_transactions=len(costs) * ceil(load / chunk),
        most_transactions=len(costs) * most,
        store_servers=ceil(load / store_rate),
        kafka_in=load * written,
        kafka_out=load * read,
        kafka_replication=load * written * (REPLICAS - 1),
        kafka_disk=load * written * REPLICAS,
        store_in=load * sizes.document,
        store_disk=load * (sizes.document + sizes.index) * REPLICAS,
    )


def sample_sizes() -> Sizes:
    """Return the mean sizes over the sample's first commands."""
    commands = list(islice(generate_commands(), SAMPLE_COMMANDS))
    proposed = [propose_event(orders, command).event for command in commands]
    events = [replace(event, prev=event.id) for event in proposed]
    stored = [
        replace(event, version=1, position=str(Position(0, 7, 10_000_000 + number)))
        for number, event in enumerate(events)
    ]
    replies = [
        encode_reply(command, "accepted", {"event_id": event.id, "place": "0-7-10000000"})
        for command, event in zip(commands, events, strict=True)
    ]
    documents = [placed_document(event) for event in stored]
    overhead = _mean([len(c.aggregate_id) for c in commands]) + RECORD_OVERHEAD_BYTES
    overhead += sum(len(name) + len(value) for name, value in EVENT_HEADERS)
    return Sizes(
        command=_mean([len(encode(each)) for each in commands]) + overhead,
        reply=_mean([len(each) for each in replies]) + overhead,
        event=_mean([len(encode(each)) for each in events]) + overhead,
        stored=_mean([len(encode(each)) for each in stored]) + overhead,
        document=_mean([len(bson.encode(each)) for each in documents]),
        index=_mean([sum(_entry_sizes(each)) for each in documents]),
    )


def _entry_sizes(document: Mapping[str, object]) -> Iterator[int]:
    """Yield the uncompressed size of the entries in the indexes that hold every placed event."""
    for keys in (("_id",), VERSIONS.keys, POSITIONS.keys):
        values = [document[key] for key in keys]
        yield 8 + sum(len(value) if isinstance(value, str) else 8 for value in values)


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--command", default=COSTS["command"], show_default=True, help="CPU us a record.")
@click.option("--append", default=COSTS["append"], show_default=True, help="CPU us a record.")
@click.option("--snapshot", default=COSTS["snapshot"], show_default=True, help="CPU us a record.")
@click.option("--relay", default=COSTS["relay"], show_default=True, help="CPU us a record.")
@click.option("--store-rate", default=STORE_RATE, show_default=True, help="Events a second.")
@click.option("--chunk-records", default=CHUNK_RECORDS, show_default=True)
def main(store_rate: int, chunk_records: int, **costs: float) -> None:
    """Print what 10 thousand, 100 thousand and a million commands a second need."""
    sizes = sample_sizes()
    columns = [compute(load, costs, store_rate, chunk_records, sizes) for load in LOADS]
    table = Table("commands a second", *(f"{each.load:,}" for each in columns))
    for row in rows(columns):
        table.add_row(*row)
    console = Console(highlight=False, width=110)
    console.print(table)
    console.print(f"bytes: {', '.join(f'{k} {v:.0f}' for k, v in vars(sizes).items())}")


def rows(columns: Sequence[Capacity]) -> Iterator[list[str]]:
    """Yield the rows of the table: a name, and a figure for each load."""
    for role in columns[0].workers:
        yield [f"workers, {role}", *(str(each.workers[role]) for each in columns)]
    yield ["cores of workers", *(str(sum(each.workers.values())) for each in columns)]
    counts = {
        "partitions": "partitions",
        "Kafka transactions a second, at least": "least_transactions",
        "Kafka transactions a second, at most": "most_transactions",
        "store servers (primaries)": "store_servers",
    }
    for name, attribute in counts.items():
        yield [name, *(f"{getattr(each, attribute):,}" for each in columns)]
    rates = {
        "Kafka, written by clients, MB/s": "kafka_in",
        "Kafka, between brokers, MB/s": "kafka_replication",
        "Kafka, read by workers, MB/s": "kafka_out",
        "store, written by append, MB/s": "store_in",
    }
    for name, attribute in rates.items():
        yield [name, *(f"{getattr(each, attribute) / 1e6:,.0f}" for each in columns)]
    for name, attribute in {"Kafka": "kafka_disk", "store": "store_disk"}.items():
        disks = [getattr(each, attribute) * DAY_SECONDS / 1e12 for each in columns]
        yield [f"{name}, disk, TB a day", *(f"{each:,.1f}" for each in disks)]


if __name__ == "__main__":
    main()
