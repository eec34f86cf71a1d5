"""Command: decides the commands of a partition and answers each.

Takes a chunk of `<domain>.commands`; the domain's decider decides its readable commands, again and
again while a server does not answer; the answers go to `<domain>.replies`, together with the
offset, only when all of the chunk is decided. A command on which the domain's own code raises is
answered Failed; the others go on. A record that is not a command of the domain is a dead letter,
and is answered where it says who sent it.
"""

import logging
import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from eventfleet.deciders.command_parser import ParsedCommand, parse_decoded_command
from eventfleet.deciders.decider import Decider, Permit
from eventfleet.deciders.failures import decide_failed
from eventfleet.deciders.fast_command_decoder import FastCommandDecoder
from eventfleet.deciders.outcomes import (
    OUTCOME_NAMES,
    Accepted,
    Conflict,
    Failed,
    Outcome,
    Rejected,
    Repeated,
    Unavailable,
    outcome_fields,
)
from eventfleet.model.domain import Domain
from eventfleet.roles.notices import PREFIX
from eventfleet.roles.role import ChunkReport
from eventfleet.roles.takeover import RoleStart
from eventfleet.stores.contracts import Clock, PartitionWriter, StoreRegistry
from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.topics.codec import decode_command
from eventfleet.topics.dead_letters import UNREADABLE, make_dead_letter
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.json_structure import has_unique_keys
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.reply import CommandHeader, encode_invalid_reply, encode_reply

ROLE = "command"
YIELD_EVERY_RECORDS = 250

ReadCommand = tuple[CommandHeader, ParsedCommand | Failed]

logger = logging.getLogger(__name__)


# What it takes


class CommandRole:
    """The command role of one partition of one domain.

    `decide_timeout` bounds one round of tries; the chunk is tried again after it.
    """

    def __init__(
        self,
        domain: Domain[Any],
        partition: int,
        decider: Decider,
        registry: StoreRegistry,
        writer: PartitionWriter,
        clock: Clock,
        *,
        decide_timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        self._domain, self._partition, self._decider = domain, partition, decider
        self._writer, self._clock = writer, clock
        self._registry, self._owner = registry, ""
        self._permit = Permit(partition, self._check_owner)
        self._start = RoleStart(registry, domain.name, ROLE, partition)
        self._decide_timeout = decide_timeout
        self._decided: dict[int, Outcome] = {}  # by offset, of a chunk that is not committed yet
        self._decoder = FastCommandDecoder(domain)
        self._replies = domain.topics.replies

    async def open(self) -> int:
        """Be noted as the one who decides the partition's commands, and take it over.

        The order matters: an owner that is noted after its fence may be so after its successor has
        decided and committed, and would decide the same commands again. Where another was noted
        since, it may have decided otherwise what this one has not committed.
        """
        owner = str(UUID(int=random.getrandbits(128)))
        if await self._registry.note_owner(ROLE, self._partition, owner) != self._owner:
            self._decided.clear()
        self._owner = owner
        self._permit = Permit(self._partition, self._check_owner)
        return await self._start.take_over(self._writer)

    async def _check_owner(self) -> None:
        """Fenced when another has taken the partition over.

        Asked between a decision and its write: the fence of a commit comes after the write, and a
        rejection leaves nothing in the store that would refuse it. An owner that is noted later
        decides on a state that is no older, so it rejects only where the write meets its version.
        """
        if await self._registry.owner(ROLE, self._partition) != self._owner:
            raise Fenced(f"another owner decides the commands of partition {self._partition}")

    async def _read(
        self, records: Sequence[LogRecord]
    ) -> tuple[dict[int, ReadCommand], dict[int, InvalidRecord]]:
        """The readable commands by offset, and what is wrong with the other records.

        A long chunk is read in parts: other partitions get their turn in between.
        """
        commands: dict[int, ReadCommand] = {}
        invalid: dict[int, InvalidRecord] = {}
        for number, record in enumerate(records, 1):
            if number % YIELD_EVERY_RECORDS == 0:
                await self._clock.sleep(0)
            try:
                commands[record.offset] = self._parse(record)
            except InvalidRecord as error:
                invalid[record.offset] = error.with_traceback(None)
        return commands, invalid

    def _parse(self, record: LogRecord) -> ReadCommand:
        """Parse a command, whose key must be its aggregate's id: others may be out of order."""
        command, parsed = self._parse_value(record)
        if record.key != command.aggregate_id.encode():
            subject = command.aggregate_id
            raise InvalidRecord("key", f"is {record.key!r}, not the subject {subject!r}")
        if (command.reply_to or "").startswith(PREFIX):
            raise InvalidRecord("replyto", f"begins with {PREFIX!r}, as the fleet's own do")
        return command, parsed

    def _parse_value(self, record: LogRecord) -> ReadCommand:
        """Parse a command; Failed where the domain's own code raised something unforeseen."""
        read = self._decoder.read(record.value)
        if read and has_unique_keys(record.value or b""):
            return read
        command = decode_command(record.value)
        try:
            return command, parse_decoded_command(self._domain, command)
        except InvalidRecord:
            raise
        except Exception as error:
            name = f"{command.type} {command.id}"
            return command, decide_failed(name, self._domain.name, command.aggregate_id, error)

    # What it does to one chunk

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        commands, invalid = await self._read(records)
        report = ChunkReport(dead_letters=len(invalid))
        await self._decide(commands)
        out: list[ProducerRecord] = []
        for record in records:
            if error := invalid.get(record.offset):
                out += self._refuse(record, error)
                continue
            outcome = self._decided[record.offset]
            out.append(self._reply(commands[record.offset][0], outcome))
            count_outcome(outcome, report)
        await self._writer.commit(out, next_offset)
        self._decided = {o: outcome for o, outcome in self._decided.items() if o >= next_offset}
        return report

    async def tick(self) -> ChunkReport:
        return ChunkReport()

    @property
    def at_rest(self) -> bool:
        return True

    async def close(self) -> None:
        await self._writer.close()

    def _reply(self, command: CommandHeader, outcome: Outcome) -> ProducerRecord:
        value = encode_reply(command, OUTCOME_NAMES[type(outcome)], outcome_fields(outcome))
        key = command.aggregate_id.encode()
        return ProducerRecord(self._replies, key, value, self._partition)

    def _refuse(self, record: LogRecord, error: InvalidRecord) -> list[ProducerRecord]:
        """The dead letter of a record that is not a command, and the reply, if it can be sent."""
        out = [
            make_dead_letter(self._domain.topics.dead_letters, ROLE, record, UNREADABLE, str(error))
        ]
        if reply := encode_invalid_reply(record.value, error):
            aggregate_id, value = reply
            key = aggregate_id.encode() or None
            out.append(ProducerRecord(self._replies, key, value, self._partition))
        return out

    # What it does when that fails

    async def _decide(self, commands: Mapping[int, ReadCommand]) -> None:
        """Decide the undecided commands. ServerUnavailable when one got no answer in time.

        An outcome is kept until its chunk is committed, unless another owner was noted meanwhile:
        when the chunk comes again, a command that was rejected must not be judged by the events
        that came after it.
        """
        undecided: list[tuple[int, ParsedCommand]] = []
        unanswered: list[Unavailable] = []
        for offset, (header, parsed) in commands.items():
            if offset in self._decided:
                continue
            if isinstance(parsed, Failed):
                self._note(offset, header, parsed)
            else:
                undecided.append((offset, parsed))

        def answer(index: int, outcome: Outcome) -> None:
            if isinstance(outcome, Unavailable):
                unanswered.append(outcome)
            else:
                offset = undecided[index][0]
                self._note(offset, commands[offset][0], outcome)

        deadline = self._clock.steady() + self._decide_timeout
        parsed_commands = [parsed for _, parsed in undecided]
        await self._decider.decide(parsed_commands, deadline, answer, self._permit)
        if unanswered:
            raise ServerUnavailable(unanswered[0].reason)

    def _note(self, offset: int, command: CommandHeader, outcome: Outcome) -> None:
        """Keep the outcome of a command; log a failure."""
        if isinstance(outcome, Failed):
            self._log_failure(offset, command, outcome)
        self._decided[offset] = outcome

    def _log_failure(self, offset: int, command: CommandHeader, outcome: Failed) -> None:
        """Log a failure under the correlation id that the command's events would have."""
        correlation_id = command.correlation_id or command.id
        logger.error(
            "%s (command %s, correlation id %s)\n%s",
            *(outcome.reason, command.id, correlation_id, outcome.details),
            extra={
                "domain": self._domain.name,
                "role": ROLE,
                "partition": self._partition,
                "offset": offset,
                "aggregate_id": command.aggregate_id,
                "command": command.type,
                "command_id": command.id,
                "correlation_id": correlation_id,
                "problem": outcome.problem,
                "exception": outcome.details or None,
            },
        )


def count_outcome(outcome: Outcome, report: ChunkReport) -> None:
    """Count the outcome of a command in the chunk's report."""
    match outcome:
        case Accepted():
            report.accepted += 1
        case Rejected(reason):
            report.rejected += 1
            report.reasons[reason] += 1
        case Repeated():
            report.repeated += 1
        case Conflict():
            report.conflicts += 1
        case Failed():
            report.failed += 1
