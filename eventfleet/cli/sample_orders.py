"""A sample log: commands of some thousand customers of a shop, the same for the same seed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple
from uuid import UUID

import msgspec

from eventfleet.domains.orders import Cancel, Deliver, Pack, Pay, Place, Return, Ship, orders
from eventfleet.log_files.records import ReadyRecord
from eventfleet.model.payloads import Command
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord, derived_id, truncate_to_milliseconds

ORDER_COUNT = 2000
SEED = 1
OPENING = datetime(2026, 1, 5, 8, tzinfo=UTC)
CLOSING = OPENING + timedelta(days=28)

_NAMESPACE = UUID("5d1f8e0e-9f53-5b1c-8a55-0b1d5a0a6c27").bytes
_CURRENCIES = ("EUR", "EUR", "EUR", "CHF", "GBP", "KRW")
_CARRIERS = ("DHL", "DPD", "UPS", "post")
_REASONS = ("changed my mind", "found it cheaper", "ordered twice", "")


class Step(NamedTuple):
    """A command of an order. Two steps of one number are one command, sent twice."""

    time: datetime
    number: int
    command: Command


def sample_orders(count: int = ORDER_COUNT, seed: int = SEED) -> Iterator[ReadyRecord]:
    """Generate the commands of `count` orders by time, orders interleaved.

    Most orders are delivered, some cancelled or returned, and the latest are still under way. Some
    commands come when they are not allowed (too late, too early, once more), some are sent twice.
    """
    steps = [
        (step.time, order, index, step)
        for order in range(count)
        for index, step in enumerate(_order(Random(f"{seed}/{order}")))
        if step.time < CLOSING
    ]
    for _, order, _, step in sorted(steps, key=lambda each: each[:3]):
        yield _to_record(f"order-{order:05}", f"{seed}/{order}/{step.number}", step)


def _order(random: Random) -> Iterator[Step]:
    """The steps of one order."""
    time = OPENING + random.random() * (CLOSING - OPENING)
    for number, (command, hours) in enumerate(_commands(random)):
        time += timedelta(hours=random.uniform(0.1, 2) * hours)
        yield Step(time, number, command)
        if random.random() < 0.02:
            time += timedelta(seconds=random.uniform(1, 30))
            yield Step(time, number, command)


def _commands(random: Random) -> Iterator[tuple[Command, float]]:
    """The commands of one order, each with its mean delay in hours after the one before."""
    total = random.randint(500, 50_000)
    customer = f"customer-{random.randint(1, 800):03}"
    yield Place(customer=customer, total=total, currency=random.choice(_CURRENCIES)), 0
    if random.random() < 0.03:
        yield Pack(parcels=1), 1
    if random.random() < 0.03:
        yield Cancel(reason="not paid in time"), 72
        if random.random() < 0.6:
            yield Pay(amount=total), 24
        return
    yield Pay(amount=total), 6
    if random.random() < 0.03:
        yield Pay(amount=total), 1
    if random.random() < 0.06:
        yield Cancel(reason=random.choice(_REASONS)), 10
        return
    yield Pack(parcels=random.choice((1, 1, 1, 2, 3))), 20
    yield Ship(carrier=random.choice(_CARRIERS)), 8
    if random.random() < 0.04:
        yield Cancel(reason=random.choice(_REASONS)), 10
    yield Deliver(), 60
    if random.random() < 0.06:
        yield Return(refund=random.choice((total, total // 2))), 100


def _to_record(order: str, name: str, step: Step) -> ReadyRecord:
    command = EventRecord(
        id=derived_id(_NAMESPACE, name),
        type=type(step.command).__name__,
        domain=orders.name,
        aggregate_id=order,
        time=truncate_to_milliseconds(step.time),
        data=msgspec.to_builtins(step.command),
    )
    return ReadyRecord(command, encode(command))
