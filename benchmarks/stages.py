"""`python -m benchmarks.stages`: what each stage of append takes for an event, no servers."""

import timeit
from collections.abc import Callable

import bson
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from benchmarks.data import Amount, ledger, made
from eventfleet.roles.append_plan import FastPlan, Item
from eventfleet.stores.contracts import NO_HEAD
from eventfleet.stores.mongo.documents import placed_document
from eventfleet.topics.codec import decode, encode
from eventfleet.topics.record import LogRecord, ProducerRecord

CHUNK = 2_000
REPEATS = 15


def stages() -> dict[str, Callable[[], object]]:
    """What is done to a chunk, stage by stage."""
    domain = ledger("ledger")
    [stored] = made("ledger", Amount(CHUNK, 300, 1))
    values = [encode(replace(event, version=0, position=None)) for event in stored]
    records = [LogRecord("ledger.events", 0, i, b"key", value) for i, value in enumerate(values)]
    events = [decode(record.value) for record in records]
    items = [Item(r, e, 0) for r, e in zip(records, events, strict=True)]
    heads = {event.aggregate_id: NO_HEAD for event in events}
    written = FastPlan(items, heads).writes
    documents = [placed_document(event) for event in written]
    return {
        "decode": lambda: [decode(value) for value in values],
        "payload against its schema": lambda: [domain.check(event) for event in events],
        "version and position": lambda: FastPlan(items, heads).writes,
        "document": lambda: [placed_document(event) for event in written],
        "BSON": lambda: [bson.encode(document) for document in documents],
        "encode": lambda: [
            ProducerRecord("ledger.stored", event.aggregate_id.encode(), encode(event), 0)
            for event in written
        ],
    }


def main() -> None:
    table = Table("stage", "us an event")
    total = 0.0
    for name, stage in stages().items():
        best = min(timeit.repeat(stage, number=1, repeat=REPEATS)) / CHUNK * 1e6
        total += best
        table.add_row(name, f"{best:.2f}")
    table.add_row("together", f"{total:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
