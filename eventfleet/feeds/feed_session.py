"""FeedSession: serves one socket that follows an aggregate."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from eventfleet.feeds.channel_commands import (
    ChannelCommand,
    ChannelCommandSender,
    ChannelOutcome,
    unavailable,
)
from eventfleet.feeds.feed_hub import FeedHub, FeedListener, encode_frame
from eventfleet.model.domain import Domain
from eventfleet.service.shares import HeldShare, LimitReached
from eventfleet.states.querier import Querier
from eventfleet.topics.codec import convert, parse
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import Identifier

MAX_MISSED_EVENTS = 1_000
MAX_FRAME_BYTES = 65_536

SendFrame = Callable[[bytes], Awaitable[None]]


class CommandFrame(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A client's frame: a command, whose `id` is its command id."""

    id: Identifier
    command: str
    data: dict[str, Any]


class FollowedDomain(NamedTuple):
    """A domain whose aggregates are followed: what serves its sockets."""

    domain: Domain[Any]
    queries: Querier[Any]
    hub: FeedHub
    sender: ChannelCommandSender


class InvalidFrame(msgspec.Struct, frozen=True, tag_field="kind", tag="invalid"):
    """A frame of the client is no command; `field` names the part and `reason` what is wrong."""

    field: str
    reason: str


_encode = msgspec.json.Encoder().encode


class FeedSession:
    """A client that follows an aggregate. Its commands are decided one after the other, in their
    order, each while the session holds `command_share` of a limit."""

    def __init__(
        self,
        followed: FollowedDomain,
        aggregate_id: str,
        actor: str,
        send: SendFrame,
        command_share: HeldShare,
    ) -> None:
        self._followed, self._aggregate_id = followed, aggregate_id
        self._actor, self._send, self._command_share = actor, send, command_share

    async def run(
        self,
        frames: AsyncIterator[str | bytes],
        after: int | None,
        may_write: bool,
        id_name: str,
    ) -> None:
        """Serve the client until its frames end.

        The first frame names the aggregate, as `id_name`: events above the version `after` follow,
        in order and without a gap; `latest` is the aggregate's version. Where `after` is not the
        one that the client has named, it has missed too many events, and asks for the state
        instead. TooSlow: it does not take the events. ServerUnavailable: the aggregate can't be
        opened.
        """
        async with self._followed.hub.listen(self._aggregate_id, after or 0) as listener:
            latest = listener.version
            missed = 0 if after is None or after > latest else latest - after
            start = latest - missed if missed <= MAX_MISSED_EVENTS else latest
            opened = {"kind": "opened", id_name: self._aggregate_id}
            await self._send(_encode({**opened, "after": start, "latest": latest}))
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
            queries = self._followed.queries
            async for event in queries.events(self._aggregate_id, after, up_to=up_to):
                await self._send(encode_frame(event))

    async def _send_events(self, listener: FeedListener) -> None:
        while True:
            await self._send(await listener.next())

    async def _take_commands(self, frames: AsyncIterator[str | bytes], may_write: bool) -> None:
        async for frame in frames:
            try:
                text = frame.encode() if isinstance(frame, str) else frame
                command = convert(parse(text), CommandFrame)
            except InvalidRecord as error:
                field = "frame" if error.field == "value" else error.field
                await self._send(_encode(InvalidFrame(field, error.reason)))
            else:
                await self._send(_encode(await self._decide(command, may_write)))

    async def _decide(self, frame: CommandFrame, may_write: bool) -> ChannelOutcome:
        domain = self._followed.domain
        if not may_write:
            reason = f"the scope {domain.name}:write is required"
            return ChannelOutcome(frame.id, "rejected", reason=reason)
        allowed = domain.followed.command_names if domain.followed else frozenset()
        if frame.command not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            reason = f"{frame.command!r} is not a command that a socket may send; known: {known}"
            return ChannelOutcome(frame.id, "invalid", field="type", reason=reason)
        command = ChannelCommand(
            frame.id, frame.command, self._aggregate_id, self._actor, frame.data
        )
        try:
            with self._command_share:
                return await self._followed.sender.send(command)
        except LimitReached as error:
            return unavailable(command, str(error))
