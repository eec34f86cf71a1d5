"""Command: decides the commands of a partition and answers each.

Takes a chunk of `<domain>.commands`; those that can be read are decided on the marker, again and
again while a server does not answer; the answers go to `<domain>.replies`, together with the
offset, only when all of the chunk is decided.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from domains.declaration import Domain
from protocols.intents import intent_of
from protocols.marking import Answer, Intent
from protocols.outcomes import Outcome, Unavailable
from protocols.role import Poison, Report
from protocols.start import take_over
from stores import errors
from stores.contracts import Clock, Parked, PartitionWriter
from topics.codec import decode
from topics.dead_letters import UNREADABLE, dead_letter
from topics.errors import Unreadable
from topics.event import EventRecord
from topics.names import Topics
from topics.record import LogRecord, Outgoing
from topics.reply import reply

ROLE = "command"


class Decider(Protocol):
    """Marking, or Direct."""

    async def decide(self, intents: Sequence[Intent], deadline: datetime, answer: Answer) -> None:
        """Answer each by its index."""


class Commands:
    """The command role of one partition of one domain. `patience`: for one round of tries."""

    def __init__(
        self,
        domain: Domain[Any],
        partition: int,
        decider: Decider,
        writer: PartitionWriter,
        parked: Parked,
        clock: Clock,
        *,
        patience: timedelta = timedelta(seconds=10),
    ) -> None:
        self._domain, self._partition, self._decider = domain, partition, decider
        self._writer, self._parked, self._clock = writer, parked, clock
        self._patience = patience
        self._replies = Topics.of(domain.name).replies

    async def open(self) -> int:
        """Take the partition over."""
        return await take_over(self._writer, self._parked, self._partition) or 0

    async def chunk(self, records: Sequence[LogRecord], next_offset: int) -> Report:
        report = Report()
        out: list[Outgoing] = []
        commands: list[EventRecord] = []
        intents: list[Intent] = []
        for record in records:
            try:
                command = decode(record.value)
                intents.append(self._intent(command, record.offset))
                commands.append(command)
            except Unreadable as error:
                name = self._domain.name
                out.append(dead_letter(name, ROLE, record, UNREADABLE, str(error)))
                report.dead_letters += 1
        outcomes = await self._decide(intents)
        for command, outcome in zip(commands, outcomes, strict=True):
            out.append(self._reply(command, outcome))
            report.count(outcome)
        await self._writer.commit(out, next_offset)
        return report

    async def tick(self) -> Report:
        return Report()

    async def close(self) -> None:
        await self._writer.close()

    def _intent(self, command: EventRecord, offset: int) -> Intent:
        try:
            return intent_of(self._domain, command)
        except Unreadable:
            raise
        except Exception as error:
            raise Poison(ROLE, self._domain.name, command, offset, error) from error

    async def _decide(self, intents: Sequence[Intent]) -> list[Outcome]:
        """The outcome of each. Unavailable, the error, when a server stays away: none is lost."""
        outcomes: dict[int, Outcome] = {}
        if intents:
            deadline = self._clock.now() + self._patience
            await self._decider.decide(intents, deadline, outcomes.__setitem__)
        for outcome in outcomes.values():
            if isinstance(outcome, Unavailable):
                raise errors.Unavailable(outcome.reason)
        return [outcomes[index] for index in range(len(intents))]

    def _reply(self, command: EventRecord, outcome: Outcome) -> Outgoing:
        kind = type(outcome).__name__.lower()
        value = reply(command, kind, msgspec.to_builtins(outcome))
        key = command.aggregate_id.encode()
        return Outgoing(self._replies, key, value, self._partition)
