"""Sends commands from a program of one's own, many at once.

Needs a running fleet; the settings in the environment lead to its servers, as for `eventfleet`.
"""

import asyncio
from collections import Counter
from uuid import uuid4

from eventfleet import Command
from eventfleet.commands import EventService, Outcome, Unavailable, event_service, load_settings
from eventfleet.domains.orders import Cancel, Order, Pay, Place, orders


async def send(service: EventService[Order], order_id: str, command: Command) -> Outcome:
    """Send until the command is decided. The same id makes it safe to send it again."""
    command_id = str(uuid4())
    while True:
        outcome = await service.send(order_id, command, command_id=command_id)
        if not isinstance(outcome, Unavailable):
            return outcome
        print(f"{command} of {order_id}: {outcome.reason}; sent again")


async def one_order(service: EventService[Order]) -> list[Outcome]:
    order_id = f"order-{uuid4()}"
    return [
        await send(service, order_id, Place(customer="ann", total=1999, currency="EUR")),
        await send(service, order_id, Cancel(reason="changed my mind")),
        await send(service, order_id, Pay(amount=1999)),  # rejected: the order is cancelled
    ]


async def main() -> None:
    async with event_service(load_settings(), orders) as service:
        outcomes = await asyncio.gather(*(one_order(service) for _ in range(100)))
    counts = Counter(type(outcome).__name__ for each in outcomes for outcome in each)
    for kind, count in sorted(counts.items()):
        print(f"{kind}: {count}")


if __name__ == "__main__":
    asyncio.run(main())
