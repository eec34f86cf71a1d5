"""Command: decides the commands of a partition and answers each.

Takes a chunk of `<domain>.commands`; those that can be read are decided on the marker, again and
again while a server does not answer; the answers go to `<domain>.replies`, together with the
offset, only when all of the chunk is decided.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from eventfleet.deciders.command_parser import ParsedCommand, parse_decoded_command
from eventfleet.deciders.decider import Decider
from eventfleet.deciders.fast_command_decoder import FastCommandDecoder
from eventfleet.deciders.outcomes import OUTCOME_NAMES, Outcome, Unavailable, outcome_fields
from eventfleet.model.domain import Domain
from eventfleet.roles.role import ChunkReport, PoisonEvent
from eventfleet.roles.takeover import take_over
from eventfleet.stores import errors
from eventfleet.stores.contracts import Clock, ParkedAggregates, PartitionWriter
from eventfleet.topics.codec import decode
from eventfleet.topics.dead_letters import UNREADABLE, make_dead_letter
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.reply import CommandHeader, encode_reply

ROLE = "command"
AT_ONCE = 250
Sent = tuple[CommandHeader, ParsedCommand]


class CommandRole:
    """The command role of one partition of one domain. `patience`: for one round of tries."""

    def __init__(
        self,
        domain: Domain[Any],
        partition: int,
        decider: Decider,
        writer: PartitionWriter,
        parked: ParkedAggregates,
        clock: Clock,
        *,
        patience: timedelta = timedelta(seconds=10),
    ) -> None:
        self._domain, self._partition, self._decider = domain, partition, decider
        self._writer, self._parked, self._clock = writer, parked, clock
        self._patience = patience
        self._decided: dict[int, Outcome] = {}  # by offset, of a chunk that is not done with
        self._forms = FastCommandDecoder(domain)
        self._replies = Topics.of(domain.name).replies

    async def open(self) -> int:
        """Take the partition over."""
        return await take_over(self._writer, self._parked, self._partition) or 0

    async def chunk(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        out, asked = await self._read(records)
        report = ChunkReport(dead_letters=len(out))
        await self._decide(asked)
        for offset, (command, _) in asked.items():
            outcome = self._decided[offset]
            out.append(self._reply(command, outcome))
            report.count(outcome)
        await self._writer.commit(out, next_offset)
        self._decided = {o: what for o, what in self._decided.items() if o >= next_offset}
        return report

    async def tick(self) -> ChunkReport:
        return ChunkReport()

    async def close(self) -> None:
        await self._writer.close()

    async def _read(
        self, records: Sequence[LogRecord]
    ) -> tuple[list[ProducerRecord], dict[int, Sent]]:
        """The dead letters, and what is asked, by offset. Other partitions get their turn."""
        letters: list[ProducerRecord] = []
        asked: dict[int, Sent] = {}
        for number, record in enumerate(records, 1):
            if number % AT_ONCE == 0:
                await self._clock.sleep(0)
            try:
                asked[record.offset] = self._forms.read(record.value) or self._asked(record)
            except InvalidRecord as error:
                name = self._domain.name
                letters.append(make_dead_letter(name, ROLE, record, UNREADABLE, str(error)))
        return letters, asked

    def _asked(self, record: LogRecord) -> Sent:
        command = decode(record.value)
        try:
            return command, parse_decoded_command(self._domain, command)
        except InvalidRecord:
            raise
        except Exception as error:
            raise PoisonEvent(ROLE, self._domain.name, command, record.offset, error) from error

    async def _decide(self, asked: Mapping[int, Sent]) -> None:
        """Decide what is not decided yet. Unavailable, the error, when a server stays away.

        What was decided stays so when the chunk comes again: a command that was rejected must not
        be judged by what came after it.
        """
        offsets = [offset for offset in asked if offset not in self._decided]
        failures: list[Unavailable] = []

        def answer(index: int, outcome: Outcome) -> None:
            if isinstance(outcome, Unavailable):
                failures.append(outcome)
            else:
                self._decided[offsets[index]] = outcome

        if offsets:
            deadline = self._clock.now() + self._patience
            commands = [asked[offset][1] for offset in offsets]
            await self._decider.decide(commands, deadline, answer)
        if failures:
            raise errors.ServerUnavailable(failures[0].reason)

    def _reply(self, command: CommandHeader, outcome: Outcome) -> ProducerRecord:
        value = encode_reply(command, OUTCOME_NAMES[type(outcome)], outcome_fields(outcome))
        key = command.aggregate_id.encode()
        return ProducerRecord(self._replies, key, value, self._partition)
