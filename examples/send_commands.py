"""Sends commands from a program of one's own, many at once.

Needs a running fleet; the settings in the environment lead to its servers, as for `eventfleet`.
"""

import asyncio
from collections import Counter
from uuid import uuid4

from eventfleet.commands import EventService, Outcome, Unavailable, event_service, load_settings
from eventfleet.domains.orders import orders

PLACE = {"customer": "ann", "total": 1999, "currency": "EUR"}


async def sent(service: EventService, order: str, command: str, data: dict[str, object]) -> Outcome:
    """Once decided. The same id makes it safe to send a command again when nothing is known."""
    command_id = str(uuid4())
    while True:
        outcome = await service.send(order, command, data, command_id=command_id)
        if not isinstance(outcome, Unavailable):
            return outcome
        print(f"{command} of {order}: {outcome.reason}; once more")


async def one_order(service: EventService) -> list[Outcome]:
    order = f"order-{uuid4()}"
    return [
        await sent(service, order, "Place", PLACE),
        await sent(service, order, "Cancel", {"reason": "changed my mind"}),
        await sent(service, order, "Pay", {"amount": 1999}),  # too late
    ]


async def main() -> None:
    async with event_service(load_settings(), orders) as service:
        outcomes = await asyncio.gather(*(one_order(service) for _ in range(100)))
    counts = Counter(type(outcome).__name__ for each in outcomes for outcome in each)
    for kind, count in sorted(counts.items()):
        print(f"{kind}: {count}")


if __name__ == "__main__":
    asyncio.run(main())
