"""A process that sends the commands of a file to an EventService and writes down the outcomes.

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
from pymongo.asynchronous.client_session import AsyncClientSession

from eventfleet.deciders.outcomes import OUTCOME_NAMES, Conflict, Outcome, Unavailable
from eventfleet.runtime import connections, event_services, server_backend, settings
from eventfleet.service.event_service import EventService
from eventfleet.stores.kafka.producer import Producer
from eventfleet.topics.event import Position
from eventfleet.topics.record import ProducerRecord

MAX_TRIES = 60
KILL_POINTS = ("noted", "producing", "produced")
INSERTED = "inserted"


class SenderPlan(msgspec.Struct, frozen=True):
    """Files of commands and of outcomes; `width` callers send at a time, and each pauses `pause`
    seconds between commands. The process ends early once the file `until` exists. At a point of
    its `nth` produce it writes a LastNote and kills itself (-9); at INSERTED, before it commits its
    `nth` put of several events."""

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

    def read_commands(self) -> "Iterator[SentCommand]":
        lines = Path(self.commands).read_bytes().splitlines()
        return iter([msgspec.json.decode(line, type=SentCommand) for line in lines])


class SentCommand(msgspec.Struct, frozen=True):
    """A command to send."""

    command_id: str
    aggregate_id: str
    command: str
    data: dict[str, Any] = {}


class CommandAnswer(msgspec.Struct, frozen=True):
    """One answer to a command. `marked`: the marked type that a rejection names."""

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


class LastNote(msgspec.Struct, frozen=True):
    """The last line of a process that kills itself: the ids of noted events, by aggregate."""

    point: str
    noted: dict[str, str]


class JsonLinesFile:
    """A file of JSON lines; a line outlives the process that wrote it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def add(self, line: msgspec.Struct) -> None:
        os.write(self._file, msgspec.json.encode(line) + b"\n")


def self_killing_producer(point: str, nth: int, notes: JsonLinesFile) -> type[Producer]:
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
            notes.add(LastNote(point, ids))
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("the process survived SIGKILL")

    return Dying


def die_before_commit(nth: int) -> None:
    """Kill this process once the events of its nth put of several are inserted."""
    commit, count = AsyncClientSession.commit_transaction, 0

    async def commit_or_die(session: AsyncClientSession) -> None:
        nonlocal count
        count += 1
        if count == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        await commit(session)

    AsyncClientSession.commit_transaction = commit_or_die  # type: ignore[method-assign]


async def send_all(
    service: EventService,
    commands: Iterator[SentCommand],
    plan: SenderPlan,
    out: JsonLinesFile,
) -> None:
    """Sends as one caller: an Unavailable or Conflict is repeated by its id until it is decided."""
    for each in commands:
        for _ in range(MAX_TRIES):
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


def _answered(command: SentCommand, outcome: Outcome) -> CommandAnswer:
    fields = msgspec.to_builtins(outcome) | {
        "command_id": command.command_id,
        "aggregate_id": command.aggregate_id,
        "command": command.command,
        "outcome": OUTCOME_NAMES[type(outcome)],
    }
    return msgspec.convert(fields, CommandAnswer)


async def main(plan: SenderPlan) -> None:
    out = JsonLinesFile(Path(plan.outcomes))
    if plan.point == INSERTED:
        die_before_commit(plan.nth)
    elif plan.point:
        server_backend.Producer = self_killing_producer(plan.point, plan.nth, out)  # type: ignore[misc]
    commands = plan.read_commands()
    mine = settings.load_settings()
    domain = connections.select_domains(mine, [plan.domain])[plan.domain]
    async with event_services.event_service(mine, domain) as service:
        await asyncio.gather(*(send_all(service, commands, plan, out) for _ in range(plan.width)))


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=SenderPlan)))
