"""FeedSession: what is said on one socket of a room."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from eventfleet.feeds.channel_commands import ChannelCommand, ChannelCommandSender, ChannelOutcome
from eventfleet.feeds.feed_hub import FeedHub, FeedListener, to_feed_event
from eventfleet.states.querier import Querier
from eventfleet.topics.codec import to_invalid_record
from eventfleet.topics.event import Identifier

MAX_MISSED_EVENTS = 1_000
MAX_FRAME_BYTES = 65_536

SendFrame = Callable[[bytes], Awaitable[None]]


class CommandFrame(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A client's frame: a command, whose `id` is that of the message if it sends one."""

    id: Identifier
    command: str
    data: dict[str, Any]


class OpenedFrame(msgspec.Struct, frozen=True, tag_field="kind", tag="opened"):
    """The first frame: events above the version `after` follow, in order and without a gap.

    `latest` is the room's version. Where `after` is not the one that the client has named, it has
    missed too many events, and reads the messages instead.
    """

    room_id: str
    after: int
    latest: int


class OutcomeFrame(
    msgspec.Struct, frozen=True, tag_field="kind", tag="outcome", omit_defaults=True
):
    """The outcome of a client's command; see ChannelOutcome."""

    id: str
    outcome: str
    version: int = 0
    reason: str = ""
    field: str = ""


class InvalidFrame(msgspec.Struct, frozen=True, tag_field="kind", tag="invalid"):
    """A frame of the client is no command; `field` names the part and `reason` what is wrong."""

    field: str
    reason: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CommandFrame).decode


class FeedSession:
    """A client in a room. Its commands are decided one after the other, in their order."""

    def __init__(
        self,
        room_id: str,
        actor: str,
        queries: Querier[Any],
        hub: FeedHub,
        sender: ChannelCommandSender,
        send: SendFrame,
    ) -> None:
        self._room_id, self._actor, self._queries = room_id, actor, queries
        self._hub, self._sender, self._send = hub, sender, send

    async def run(
        self, frames: AsyncIterator[str | bytes], after: int | None, may_write: bool
    ) -> None:
        """Serve the client until its frames end.

        TooSlow: it does not take the events. ServerUnavailable: the room can't be opened.
        """
        async with self._hub.listen(self._room_id) as listener:
            latest = listener.version
            missed = 0 if after is None or after > latest else latest - after
            start = latest - missed if missed <= MAX_MISSED_EVENTS else latest
            await self._send(_encode(OpenedFrame(self._room_id, start, latest)))
            await self._send_stored(start, latest)
            events = asyncio.create_task(self._send_events(listener))
            commands = asyncio.create_task(self._take_commands(frames, may_write))
            try:
                done, _ = await asyncio.wait(
                    {events, commands}, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()
            finally:
                events.cancel()
                commands.cancel()
                await asyncio.gather(events, commands, return_exceptions=True)

    async def _send_stored(self, after: int, up_to: int) -> None:
        if after < up_to:
            async for event in self._queries.events(self._room_id, after, up_to=up_to):
                await self._send(to_feed_event(event).frame)

    async def _send_events(self, listener: FeedListener) -> None:
        while True:
            await self._send((await listener.next()).frame)

    async def _take_commands(self, frames: AsyncIterator[str | bytes], may_write: bool) -> None:
        async for frame in frames:
            try:
                command = _decode(frame)
            except msgspec.ValidationError as error:
                wrong = to_invalid_record(error)
                await self._send(_encode(InvalidFrame(wrong.field, wrong.reason)))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                await self._send(_encode(InvalidFrame("frame", f"is not JSON: {error}")))
            else:
                await self._send(_encode(_to_frame(await self._decide(command, may_write))))

    async def _decide(self, frame: CommandFrame, may_write: bool) -> ChannelOutcome:
        if not may_write:
            return ChannelOutcome(frame.id, "rejected", reason="the scope chat:write is required")
        command = ChannelCommand(frame.id, frame.command, self._room_id, self._actor, frame.data)
        return await self._sender.send(command)


def _to_frame(outcome: ChannelOutcome) -> OutcomeFrame:
    return OutcomeFrame(**msgspec.structs.asdict(outcome))
