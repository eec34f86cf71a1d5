"""Commands on their way from a socket, over a channel, to whichever process decides them.

The process with the socket publishes the command to all; the subscriber that claims it first
decides it, and publishes the outcome to the process with the socket. The subscriber that decided
an aggregate's last command has its state in memory; the others let it claim the next one, too.
The server keeps none of this: a command whose subscriber dies has no outcome, and who sends it
again, with the same id, stores it once.

A published command carries a deadline by the server's clock, which comes before its sender gives
up. It is claimed by one process, until its deadline only, and not decided later: so a process that
stood still decides nothing whose sender has been answered.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from eventfleet.deciders.outcomes import (
    OUTCOME_NAMES,
    Accepted,
    Outcome,
    Repeated,
    Unavailable,
    name_outcome,
)
from eventfleet.feeds.channel_names import ChannelNames
from eventfleet.service.event_service import EventService
from eventfleet.stores.background_task import BackgroundTask, cancel
from eventfleet.stores.contracts import Channels, Claim, Incarnation
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.codec import encode_digits
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.values import DECODE_ERRORS, read_float

CLAIM_LATER_SECONDS = 0.05
LEFT_SECONDS = 60.0
MAX_LEFT_AGGREGATES = 10_000
OUTCOME_SECONDS = 6.0
DECIDE_SHARE = 5 / 6
"""The share of OUTCOME_SECONDS after which a command is not decided any more."""
DEADLINE_PASSED = "the deadline has passed"
MAX_DECIDING = 1_000
LOOK_SECONDS = 1.0
"""How long a look at the server's clock counts."""

logger = logging.getLogger(__name__)

_encode = encode_digits


class ChannelCommand(msgspec.Struct, frozen=True):
    """A command to an aggregate; `id` is its command id."""

    id: str
    name: str
    aggregate_id: str
    actor: str
    data: dict[str, Any]


class ChannelOutcome(
    msgspec.Struct, frozen=True, tag_field="kind", tag="outcome", omit_defaults=True
):
    """The outcome of a command, and its frame: a name as in replies, or "invalid" with the `field`.

    `version` is that of its event; of "unavailable" nothing is known, and who sends the command
    again, with the same id, learns it.
    """

    id: str
    outcome: str
    version: int = 0
    reason: str = ""
    field: str = ""


class PublishedCommand(msgspec.Struct, frozen=True):
    """A command as it is published; `number` is its own each time, `reply_to` a channel.

    `deadline` is in seconds of the server's clock, in the `incarnation` with this id.
    """

    number: str
    reply_to: str
    command: ChannelCommand
    incarnation: str
    deadline: float


class PublishedOutcome(msgspec.Struct, frozen=True):
    """The outcome of the published command of this number."""

    number: str
    outcome: ChannelOutcome


_decode_command = msgspec.json.Decoder(PublishedCommand, float_hook=read_float).decode
_decode_outcome = msgspec.json.Decoder(PublishedOutcome).decode


class ServerMoment(NamedTuple):
    """A time of the server's clock in one of its incarnations (its id), in seconds."""

    incarnation: str
    time: float


class ServerTime:
    """Converts moments to the server's time, by a look at its clock now and then."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._look: Incarnation | None = None
        self._answered_at = 0.0  # by the event loop's clock
        self._looking = asyncio.Lock()

    def forget(self) -> None:
        """Look anew: the server may be another one by now."""
        self._look = None

    async def at(self, moment: float) -> ServerMoment:
        """The server's time at a moment of the event loop's clock, or a little before it.

        ServerUnavailable.
        """
        async with self._looking:
            look, loop = self._look, asyncio.get_running_loop()
            if look is None or loop.time() - self._answered_at > LOOK_SECONDS:
                look = self._look = await self._channels.incarnation()
                self._answered_at = loop.time()
            return ServerMoment(look.id, look.now + moment - self._answered_at)


class ChannelCommandSender:
    """Publishes the commands of this process's sockets, and receives their outcomes."""

    def __init__(self, channels: Channels, domain: str) -> None:
        self._channels = channels
        self._server_time = ServerTime(channels)
        self._names = ChannelNames.of(domain)
        self._reply_to = f"{self._names.outcomes}{uuid4().hex}"
        self._awaited: dict[str, asyncio.Future[ChannelOutcome]] = {}
        self._subscribed = asyncio.Event()
        self._listener = BackgroundTask(
            f"the listener for outcomes of {domain} commands",
            self._listen,
            essential=True,
        )
        self.running = self._listener.running

    async def send(self, command: ChannelCommand) -> ChannelOutcome:
        """Publish a command, and wait for its outcome, OUTCOME_SECONDS at most."""
        number, loop = uuid4().hex, asyncio.get_running_loop()
        outcome: asyncio.Future[ChannelOutcome] = loop.create_future()
        self._awaited[number] = outcome
        decided_by = loop.time() + OUTCOME_SECONDS * DECIDE_SHARE
        try:
            async with asyncio.timeout(OUTCOME_SECONDS):
                await self._subscribed.wait()
                deadline = await self._server_time.at(decided_by)
                published = PublishedCommand(number, self._reply_to, command, *deadline)
                await self._channels.publish({self._names.commands: [_encode(published)]})
                return await outcome
        except TimeoutError:
            return unavailable(command, "nobody has told the outcome in time")
        except ServerUnavailable as error:
            return unavailable(command, str(error))
        finally:
            del self._awaited[number]

    async def _listen(self) -> None:
        try:
            async with self._channels.subscribe(self._reply_to) as messages:
                self._server_time.forget()
                self._subscribed.set()
                self._listener.report_well()
                async for together in messages:
                    for message in together:
                        self._receive(message)
        finally:
            self._subscribed.clear()

    def _receive(self, message: bytes) -> None:
        with suppress(*DECODE_ERRORS):  # others may publish what is none
            told = _decode_outcome(message)
            awaited = self._awaited.get(told.number)
            if awaited and not awaited.done():
                awaited.set_result(told.outcome)


class LeftAggregates:
    """The aggregates that this process leaves to another, which claimed a command there before it.

    That ends after LEFT_SECONDS, more or less: so aggregates spread over the processes again when
    some have come or gone. No more than MAX_LEFT_AGGREGATES are noted.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def __contains__(self, aggregate_id: str) -> bool:
        return self._until.get(aggregate_id, 0.0) > time.monotonic()

    def note_claim(self, aggregate_id: str, *, is_mine: bool) -> None:
        """Note whether this process was the first to claim a command of the aggregate."""
        if is_mine:
            self._until.pop(aggregate_id, None)
        elif aggregate_id not in self:
            while len(self._until) >= MAX_LEFT_AGGREGATES:
                del self._until[next(iter(self._until))]
            end = time.monotonic() + LEFT_SECONDS * (0.5 + random.random())
            self._until[aggregate_id] = end


class ChannelCommandSubscriber:
    """Decides published commands, each that it claims before others do.

    Those that came together are claimed together: at once, but after CLAIM_LATER_SECONDS for
    aggregates that it leaves to another process. With MAX_DECIDING of such groups under way it
    reads no further.
    """

    def __init__(self, channels: Channels, domain: str, service: EventService[Any]) -> None:
        self._channels, self._service = channels, service
        self._names = ChannelNames.of(domain)
        self._free = asyncio.Semaphore(MAX_DECIDING)
        self._deciding: set[asyncio.Task[None]] = set()
        self.left_aggregates = LeftAggregates()
        self._listener = BackgroundTask(
            f"the subscriber of {domain} commands",
            self._listen,
            essential=True,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            async with self._listener.running():
                yield
        finally:
            for task in list(self._deciding):
                await cancel(task)

    async def _listen(self) -> None:
        async with self._channels.subscribe(self._names.commands) as messages:
            self._listener.report_well()
            async for together in messages:
                own: list[PublishedCommand] = []
                left: list[PublishedCommand] = []
                for message in together:
                    with suppress(*DECODE_ERRORS):  # others may publish what is none
                        each = _decode_command(message)
                        is_left = each.command.aggregate_id in self.left_aggregates
                        (left if is_left else own).append(each)
                for published, pause in ((own, 0.0), (left, CLAIM_LATER_SECONDS)):
                    if published:
                        await self._free.acquire()
                        task = asyncio.create_task(self._answer_all(published, pause))
                        self._deciding.add(task)
                        task.add_done_callback(self._deciding.discard)

    async def _answer_all(self, published: Sequence[PublishedCommand], pause: float) -> None:
        """Answer nothing where the server is away: the sender learns that nothing is known."""
        prefix, answers = self._names.claims, []
        try:
            if pause:
                await asyncio.sleep(pause)
            asked_at = asyncio.get_running_loop().time()
            claimed = await self._channels.claim(
                [Claim(prefix + each.number, each.incarnation, each.deadline) for each in published]
            )
            for each, seconds_left in zip(published, claimed, strict=True):
                self.left_aggregates.note_claim(each.command.aggregate_id, is_mine=seconds_left > 0)
                if seconds_left > 0:
                    answers.append(self._answer(each, asked_at + seconds_left))
            await asyncio.gather(*answers)
        except ServerUnavailable:
            pass
        except Exception:
            logger.exception("a command of a socket has no outcome")
        finally:
            self._free.release()

    async def _answer(self, published: PublishedCommand, deadline: float) -> None:
        """Decide a command until a moment of the event loop's clock, and publish its outcome."""
        command, seconds_left = published.command, deadline - asyncio.get_running_loop().time()
        try:
            if seconds_left <= 0:
                told = unavailable(command, DEADLINE_PASSED)
            else:
                outcome = await self._service.send(
                    command.aggregate_id,
                    command.name,
                    command.data,
                    command_id=command.id,
                    actor=command.actor,
                    timeout=seconds_left,
                )
                told = to_channel_outcome(command, outcome)
        except InvalidRecord as error:
            told = ChannelOutcome(command.id, "invalid", field=error.field, reason=error.reason)
        message = _encode(PublishedOutcome(published.number, told))
        await self._channels.publish({published.reply_to: [message]})


def to_channel_outcome(command: ChannelCommand, outcome: Outcome) -> ChannelOutcome:
    """Convert an outcome; "accepted" once the event is stored and produced."""
    if isinstance(outcome, Accepted) and not outcome.published:
        return unavailable(command, "it is stored, and the stream has not taken it yet")
    version = outcome.version if isinstance(outcome, Accepted | Repeated) else 0
    reason = getattr(outcome, "reason", "")
    return ChannelOutcome(command.id, name_outcome(outcome), version, reason)


def unavailable(command: ChannelCommand, reason: str) -> ChannelOutcome:
    return ChannelOutcome(command.id, OUTCOME_NAMES[Unavailable], reason=reason)
