"""A sample to run on: some thousand orders of a shop, the same ones for the same seed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid5

import msgspec

from domains.declaration import Event
from domains.orders import (
    Cancelled,
    Delivered,
    Packed,
    Paid,
    Placed,
    Returned,
    Shipped,
    orders,
)
from topics.codec import encode
from topics.event import EventRecord, milliseconds
from workers.files.records import Ready

ORDERS = 2000
SEED = 1
OPENING = datetime(2026, 1, 5, 8, tzinfo=UTC)
# Before that day the shop sold in euros only, and its events said nothing of a currency.
OTHER_CURRENCIES = OPENING + timedelta(days=7)
CLOSING = OPENING + timedelta(days=28)

_NAMESPACE = UUID("5d1f8e0e-9f53-5b1c-8a55-0b1d5a0a6c27")
_CURRENCIES = ("EUR", "EUR", "EUR", "CHF", "GBP", "KRW")
_CARRIERS = ("DHL", "DPD", "UPS", "post")
_REASONS = ("changed my mind", "found it cheaper", "ordered twice", "")

Step = tuple[datetime, Event]


def sample(count: int = ORDERS, seed: int = SEED) -> Iterator[Ready]:
    """The events of `count` orders as they happened in the shop: by time, orders interleaved.

    Most are delivered, some cancelled or returned, and the latest are still under way. The oldest
    `Placed` events have schema version 1.
    """
    happened = [
        (time, number, index, event)
        for number in range(count)
        for index, (time, event) in enumerate(_order(Random(f"{seed}/{number}")))
        if time < CLOSING
    ]
    for time, number, index, event in sorted(happened, key=lambda step: step[:3]):
        yield _ready(f"order-{number:05}", f"{seed}/{number}/{index}", time, event)


def _order(random: Random) -> list[Step]:
    """One order's way through the shop."""
    time = OPENING + random.random() * (CLOSING - OPENING)
    total = random.randint(500, 50_000)
    currency = "EUR" if time < OTHER_CURRENCIES else random.choice(_CURRENCIES)
    customer = f"customer-{random.randint(1, 800):03}"
    steps: list[Step] = [(time, Placed(customer=customer, total=total, currency=currency))]
    parcels = random.choice((1, 1, 1, 2, 3))
    for event, hours in (
        (Paid(amount=total), 6),
        (Packed(parcels=parcels), 20),
        (Shipped(carrier=random.choice(_CARRIERS)), 8),
        (Delivered(), 60),
    ):
        time += timedelta(hours=random.uniform(0.1, 2) * hours)
        if not isinstance(event, Shipped | Delivered) and random.random() < 0.04:
            return [*steps, (time, Cancelled(reason=random.choice(_REASONS)))]
        steps.append((time, event))
    if random.random() < 0.06:
        time += timedelta(hours=random.uniform(10, 200))
        steps.append((time, Returned(refund=random.choice((total, total // 2)))))
    return steps


def _ready(order: str, name: str, time: datetime, event: Event) -> Ready:
    kind, data = type(event).__name__, msgspec.to_builtins(event)
    schema_version = orders.newest(kind)
    if isinstance(event, Placed) and time < OTHER_CURRENCIES:
        schema_version = 1
        del data["currency"]
    record = EventRecord(
        id=str(uuid5(_NAMESPACE, name)),
        type=kind,
        domain=orders.name,
        aggregate_id=order,
        time=milliseconds(time),
        data=data,
        schema_version=schema_version,
    )
    return Ready(record, encode(record))
