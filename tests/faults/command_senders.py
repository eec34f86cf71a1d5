"""A service that sends the commands of a file and writes each outcome down.

`python -m tests.faults.command_senders PLAN`, the plan as JSON.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from eventfleet.deciders.outcomes import OUTCOME_NAMES, Conflict, Outcome, Unavailable
from eventfleet.runtime import connections, event_services, settings
from eventfleet.service.event_service import EventService
from eventfleet.stores.kafka.producer import Producer
from eventfleet.topics.event import Position
from eventfleet.topics.record import ProducerRecord

TRIES = 60
POINTS = ("noted", "producing", "produced")


class Plan(msgspec.Struct, frozen=True):
    """Files of commands and of outcomes; how many callers send at a time, and the seconds that
    each pauses between commands. The service ends early when the file `until` is there. At a
    point of its `nth` produce it kills itself (-9), having written down what it had noted."""

    domain: str
    commands: str
    outcomes: str
    width: int
    pause: float = 0.0
    until: str = ""
    point: str = ""
    nth: int = 0

    def over(self) -> bool:
        return bool(self.until) and Path(self.until).exists()

    def asked(self) -> "Iterator[Asked]":
        lines = Path(self.commands).read_bytes().splitlines()
        return iter([msgspec.json.decode(line, type=Asked) for line in lines])


class Asked(msgspec.Struct, frozen=True):
    """A command to send."""

    command_id: str
    aggregate_id: str
    command: str
    data: dict[str, Any] = {}


class Answered(msgspec.Struct, frozen=True):
    """What a command was answered once. `marked`: of a rejection."""

    command_id: str
    aggregate_id: str
    command: str
    outcome: str
    event_id: str = ""
    place: str = ""
    marked: str = ""
    reason: str = ""
    version: int = 0
    published: bool = True


class Noted(msgspec.Struct, frozen=True):
    """The last word of a service that kills itself: the event ids that it had noted."""

    point: str
    noted: dict[str, str]


class Written:
    """A file of JSON lines. What is written is there, whatever happens to the process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def add(self, line: msgspec.Struct) -> None:
        os.write(self._file, msgspec.json.encode(line) + b"\n")


def dying(point: str, nth: int, said: Written) -> type[Producer]:
    """A producer that kills its process at a point of its nth produce."""

    class Dying(Producer):
        count = 0

        async def produce(self, records: Sequence[ProducerRecord]) -> list[Position]:
            Dying.count += 1
            if Dying.count != nth:
                return await super().produce(records)
            if point == "producing":
                await asyncio.wait(
                    [asyncio.create_task(super().produce(records))],
                    timeout=random.uniform(0.0, 0.003),
                )
            if point == "produced":
                await super().produce(records)
            ids = {str(r.key, "utf-8"): msgspec.json.decode(r.value)["id"] for r in records}
            said.add(Noted(point, ids))
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("it lives on")

    return Dying


async def send_all(service: EventService, asked: Iterator[Asked], plan: Plan, out: Written) -> None:
    """One caller: a command that is Unavailable, or lost to others, is repeated by its id until it
    is decided."""
    for each in asked:
        for _ in range(TRIES):
            outcome = await service.send(
                each.aggregate_id, each.command, each.data, command_id=each.command_id
            )
            out.add(_answered(each, outcome))
            if not isinstance(outcome, Unavailable | Conflict):
                break
            await asyncio.sleep(random.uniform(0.05, 0.2))
        await asyncio.sleep(plan.pause)
        if plan.over():
            return


def _answered(asked: Asked, outcome: Outcome) -> Answered:
    told = msgspec.to_builtins(outcome) | {
        "command_id": asked.command_id,
        "aggregate_id": asked.aggregate_id,
        "command": asked.command,
        "outcome": OUTCOME_NAMES[type(outcome)],
    }
    return msgspec.convert(told, Answered)


async def main(plan: Plan) -> None:
    out = Written(Path(plan.outcomes))
    if plan.point:
        event_services.Producer = dying(plan.point, plan.nth, out)  # type: ignore[misc]
    asked = plan.asked()
    mine = settings.load()
    domain = connections.chosen(mine, [plan.domain])[plan.domain]
    async with event_services.event_service(mine, domain) as service:
        await asyncio.gather(*(send_all(service, asked, plan, out) for _ in range(plan.width)))


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Plan)))
