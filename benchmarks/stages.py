"""`python -m benchmarks.stages` measures the CPU of each stage of append, without servers."""

import timeit
from collections.abc import Callable

import bson
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from benchmarks.data import DatasetSize, declare_ledger, make_events
from eventfleet.roles.append_plan import FastPlan, Item
from eventfleet.stores.contracts import NO_HEAD
from eventfleet.stores.mongo.documents import placed_document
from eventfleet.topics.codec import decode, encode
from eventfleet.topics.record import LogRecord, ProducerRecord

CHUNK_RECORDS = 2_000
REPEATS = 15


def build_stages() -> dict[str, Callable[[], object]]:
    """Return a function for each stage, which processes a chunk."""
    domain = declare_ledger("ledger")
    [stored] = make_events("ledger", DatasetSize(CHUNK_RECORDS, 300, 1))
    values = [encode(replace(event, version=0, position=None)) for event in stored]
    records = [LogRecord("ledger.events", 0, i, b"key", value) for i, value in enumerate(values)]
    events = [decode(record.value) for record in records]
    items = [Item(r, e, 0) for r, e in zip(records, events, strict=True)]
    heads = {event.aggregate_id: NO_HEAD for event in events}
    placed_events = FastPlan(items, heads).writes
    documents = [placed_document(event) for event in placed_events]
    return {
        "decode": lambda: [decode(value) for value in values],
        "payload against its schema": lambda: [domain.check(event) for event in events],
        "version and position": lambda: FastPlan(items, heads).writes,
        "document": lambda: [placed_document(event) for event in placed_events],
        "BSON": lambda: [bson.encode(document) for document in documents],
        "encode": lambda: [
            ProducerRecord("ledger.stored", event.aggregate_id.encode(), encode(event), 0)
            for event in placed_events
        ],
    }


def main() -> None:
    table = Table("stage", "us an event")
    total = 0.0
    for name, stage in build_stages().items():
        best = min(timeit.repeat(stage, number=1, repeat=REPEATS)) / CHUNK_RECORDS * 1e6
        total += best
        table.add_row(name, f"{best:.2f}")
    table.add_row("together", f"{total:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
