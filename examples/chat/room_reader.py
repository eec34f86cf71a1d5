"""RoomReader: answers with the messages of rooms, by replay or from the view."""

from datetime import datetime
from enum import StrEnum

from msgspec.structs import replace

from eventfleet.queries import EventKey, EventRecord, Querier, event_id
from examples.chat.domain import ChatMessageView, Message, Room, chat, messages
from examples.chat.room_replay import SHOWN, RoomReplay

DEFAULT_LIMIT = 100
PAGE_EVENTS = 200


class Source(StrEnum):
    """The source of messages; both have the same, once the view has caught up."""

    REPLAY = "replay"
    VIEW = "view"


class RoomReader:
    """The queries of rooms; messages come in the order of their versions. An unknown room is an
    empty one."""

    def __init__(self, queries: Querier[Room]) -> None:
        self._queries = queries

    async def messages(
        self,
        room_id: str,
        limit: int = DEFAULT_LIMIT,
        at: datetime | None = None,
        source: Source = Source.REPLAY,
    ) -> list[Message]:
        """The newest visible messages, `limit` at most; with `at`, as the room was at that moment.

        ViewNotBuilt for a view that no `project` role has built yet. ValueError: a view has no
        past.
        """
        if source is Source.REPLAY:
            return await self._replay(room_id, limit, at)
        if at is not None:
            raise ValueError("a view has no past: replay the events")
        return await self._read_view(room_id, limit)

    async def room(self, room_id: str) -> Room:
        """The room's latest state, at the version of its events: the state itself does not count
        discarded ones."""
        found = await self._queries.latest(room_id)
        return replace(found.state, version=found.version) if found else Room()

    async def history(self, room_id: str, message_id: str) -> list[EventRecord]:
        """The events of one message: sent, edited, deleted; empty for an unknown one, and for one
        that was discarded."""
        key = EventKey(room_id, event_id(chat.name, room_id, message_id))
        sent = (await self._queries.find_stored([key])).get(key)
        if sent is None or sent.discarded or sent.data.get("message_id") != message_id:
            return []
        changes = self._queries.effective_events(room_id, sent.version, types=SHOWN[1:])
        return [
            sent,
            *[event async for event in changes if event.data["target_message_id"] == message_id],
        ]

    async def _replay(self, room_id: str, limit: int, at: datetime | None) -> list[Message]:
        if at is None and (kept := await self._kept_messages(room_id, limit)) is not None:
            return kept
        replay, version = RoomReplay(), await self._queries.version(room_id, at)
        while version and len(replay.newest_first) < limit:
            after = max(version - PAGE_EVENTS, 0)
            found = self._queries.effective_events(room_id, after, up_to=version)
            page = [event async for event in found if event.type in SHOWN]
            for event in reversed(page):
                payload = chat.payload(event)
                replay.apply(payload, event.version)  # type: ignore[arg-type]
            version = after
        return replay.newest_first[:limit][::-1]

    async def _kept_messages(self, room_id: str, limit: int) -> list[Message] | None:
        """The messages of the latest state, where it is near a snapshot, has enough of them, and
        counts all events."""
        snapshot = await self._queries.snapshot(room_id)
        version = snapshot.version if snapshot else 0
        if await self._queries.version(room_id) - version > PAGE_EVENTS:
            return None
        found = await self._queries.latest(room_id)
        room = found.state if found else Room()
        if found and room.version != found.version:
            return None  # some were discarded: its messages have not the versions of their events
        enough = len(room.messages) >= limit or room.from_version == 1
        return list(room.messages[-limit:]) if enough else None

    async def _read_view(self, room_id: str, limit: int) -> list[Message]:
        page = await self._queries.views.find(
            messages.name, {"room_id": room_id}, order_by="-version", limit=limit
        )
        rows = [each.row for each in reversed(page.rows)]
        return [to_message(row) for row in rows if isinstance(row, ChatMessageView)]


def to_message(row: ChatMessageView) -> Message:
    """Convert a row of the view."""
    return Message(
        id=row.message_id,
        sender_id=row.sender_id,
        content=row.content,
        timestamp=row.timestamp,
        version=row.version,
        edited=row.edited,
    )
