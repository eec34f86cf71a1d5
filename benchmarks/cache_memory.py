"""`python -m benchmarks.cache_memory` measures the memory of cached heads and live states.

Each kind is cached in a process of its own, whose resident memory is read before and after.
"""

import resource
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from uuid import uuid4

import click
from rich.console import Console
from rich.table import Table

from eventfleet.domains.orders import Order
from eventfleet.states.live_state import LiveState
from eventfleet.states.lru_cache import LruCache
from eventfleet.stores.contracts import Head

PAGE_BYTES = resource.getpagesize()


def make_head(number: int) -> Head:
    return Head(number, str(uuid4()), number, "".join(["Pl", "aced"]))


def make_live_state(number: int) -> LiveState:
    """Make the state of an order that two events were folded into since its snapshot."""
    order = Order("paid", f"customer {number:07}", number, "EUR", number)
    types = {"Placed", "Paid"}
    return LiveState(f"order-{number:07}", order, number, 1, datetime.now(UTC), types)


MAKERS: dict[str, Callable[[int], object]] = {"head": make_head, "live state": make_live_state}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--aggregates", default=100_000, show_default=True, type=click.IntRange(1_000))
def main(aggregates: int) -> None:
    """Cache so many aggregates, and print the bytes of each."""
    table = Table("cached", "bytes each")
    for name in MAKERS:
        with get_context("spawn").Pool(1) as pool:
            size = pool.apply(measure, (name, aggregates))
        table.add_row(name, f"{size / aggregates:,.0f}")
    Console(highlight=False).print(table)


def measure(name: str, aggregates: int) -> int:
    """Return the growth of this process' resident memory in bytes."""
    make, before = MAKERS[name], _resident_bytes()
    cache: LruCache[object] = LruCache(aggregates)
    for number in range(aggregates):
        cache.put(f"order-{number:07}", make(number))
    return _resident_bytes() - before


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


if __name__ == "__main__":
    main()
