"""HTTP paths of chat rooms: their messages, who has read what, and their sockets.

Add this module to EVENTFLEET_HTTP_OPERATIONS, beside `examples.chat` in EVENTFLEET_DOMAINS.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType
from starlette.responses import Response

from eventfleet import EventRecord
from eventfleet.http import (
    REPLAY_FAILED,
    FeedPath,
    Operation,
    QueryParameters,
    RequestContext,
    ResponseBody,
    etag,
    invalid,
    json_response,
    path_part,
)
from examples.chat.domain import Instant, Message, chat
from examples.chat.room_reader import DEFAULT_LIMIT, RoomReader, Source

MAX_MESSAGES = 1_000

Version = Annotated[int, Meta(ge=1, le=2**63 - 1)]
ReadVersion = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class RoomMessage(ResponseBody):
    """A message. `version` is that of the room's event that sent it: messages are in its order."""

    id: str
    sender_id: str
    content: str
    timestamp: datetime
    version: Version
    edited: bool


class RoomMessages(ResponseBody):
    """The newest visible messages of a room, the oldest of them first."""

    room_id: str
    messages: list[RoomMessage]


class RoomDescription(ResponseBody):
    """A room. `version` is 0 for a room without events. `read` has the version up to which each
    reader has read; `unread` counts the messages of others that the caller has not read, among the
    newest ones that the room's state keeps."""

    room_id: str
    version: ReadVersion
    members: Sequence[str]
    read: dict[str, int]
    unread: int


class MessageHistory(ResponseBody):
    """The events of one message in version order; none for a message that was never sent."""

    room_id: str
    message_id: str
    events: list[EventRecord]


class MessagesParameters(QueryParameters):
    limit: Annotated[int, Meta(ge=1, le=MAX_MESSAGES)] = DEFAULT_LIMIT
    at: Instant | UnsetType = UNSET
    source: Source = Source.REPLAY


async def messages(context: RequestContext) -> Response:
    """Returns the newest visible messages of a room, `limit` at most, in order.

    `source` says whether the room's events are replayed or its view is read: both have the same
    messages. With `at` the messages are those of that moment, which only events know. An unknown
    room has no messages.
    """
    parameters: MessagesParameters = context.parameters
    at = None if parameters.at is UNSET else parameters.at
    room_id = context.aggregate_id
    try:
        found = await _reader(context).messages(room_id, parameters.limit, at, parameters.source)
    except ValueError as error:
        raise invalid("at", str(error)) from None
    return json_response(
        RoomMessages(room_id=room_id, messages=[_to_body(message) for message in found])
    )


async def room(context: RequestContext) -> Response:
    """Returns who is in a room, who has read what, and how much the caller has not read.

    `X-Actor` names the caller where no tokens are needed. The ETag is the room's version.
    """
    found = await _reader(context).room(context.aggregate_id)
    body = RoomDescription(
        room_id=context.aggregate_id,
        version=found.version,
        members=found.members,
        read=found.read,
        unread=found.unread(context.actor or ""),
    )
    return json_response(body, headers={"ETag": etag(found.version)} if found.version else None)


async def history(context: RequestContext) -> Response:
    """Returns the events of a message: sent, each edit, and deleted."""
    room_id, message_id = context.aggregate_id, path_part(context.request, "message")
    events = await _reader(context).history(room_id, message_id)
    return json_response(MessageHistory(room_id=room_id, message_id=message_id, events=events))


def _reader(context: RequestContext) -> RoomReader:
    return RoomReader(context.services.queries)


def _to_body(message: Message) -> RoomMessage:
    assert message.timestamp
    return RoomMessage(
        id=message.id,
        sender_id=message.sender_id,
        content=message.content,
        timestamp=message.timestamp,
        version=message.version,
        edited=message.edited,
    )


MESSAGES = Operation(
    name="messages",
    method="GET",
    path="/rooms/{id}/messages",
    domain=chat.name,
    right="read",
    handler=messages,
    parameters=MessagesParameters,
    responses={200: RoomMessages},
    problems=(REPLAY_FAILED,),
)
ROOM = Operation(
    name="room",
    method="GET",
    path="/rooms/{id}",
    domain=chat.name,
    right="read",
    handler=room,
    responses={200: RoomDescription},
    headers=("X-Actor",),
    problems=(REPLAY_FAILED,),
)
HISTORY = Operation(
    name="history",
    method="GET",
    path="/rooms/{id}/messages/{message}/history",
    domain=chat.name,
    right="read",
    handler=history,
    responses={200: MessageHistory},
    problems=(REPLAY_FAILED,),
)
SOCKET = FeedPath(
    "/rooms/{id}/socket", domain=chat.name, id_name="room_id", subprotocol="eventfleet.chat"
)
