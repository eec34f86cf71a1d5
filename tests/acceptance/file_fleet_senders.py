"""A program that is the fleet of a file: it sends commands, and notes each that was accepted."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from eventfleet import Command, Domain, Emits, Event, Rejection, State, every
from eventfleet.commands import Accepted, EventService, event_service, load_settings
from eventfleet.fleet import running_roles

SENDERS = 8


class Added(Event):
    amount: int


class Total(State):
    sum: int = 0


class Add(Command):
    amount: int


def evolve(total: Total, event: Event) -> Total:
    return Total(total.sum + event.amount) if isinstance(event, Added) else total


def decide(total: Total, command: Command) -> Event | Rejection:
    assert isinstance(command, Add)
    return Added(command.amount)


sums = Domain(
    "sums",
    state=Total,
    evolve=evolve,
    events=[Added],
    commands=[Add],
    decide=decide,
    snapshot=every(7),
)
tallies = Domain(
    "tallies",
    state=Total,
    evolve=evolve,
    events=[Added],
    commands=[Emits(Add, Added, after=None)],
    snapshot=every(7),
)


async def main(run: str, answers: Path) -> None:
    settings = load_settings()
    noted = os.open(answers, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def send(service: EventService[Any], domain: str, sender: int) -> None:
        for number in range(1_000_000):
            name, id = f"{domain}-{sender}", f"{run}-{domain}-{sender}-{number}"
            outcome = await service.send(name, Add(amount=1), command_id=id)
            assert isinstance(outcome, Accepted), outcome
            os.write(noted, f"{domain} {name} {outcome.event_id}\n".encode())

    async with (
        running_roles(settings, [sums, tallies]),
        event_service(settings, sums) as of_sums,
        event_service(settings, tallies) as of_tallies,
    ):
        os.write(noted, b"ready\n")
        services = {"sums": of_sums, "tallies": of_tallies}
        async with asyncio.TaskGroup() as group:
            for domain, service in services.items():
                for sender in range(SENDERS):
                    group.create_task(send(service, domain, sender))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
