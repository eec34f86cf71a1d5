"""Chat rooms: messages sent, edited, deleted and read; who joined and who left.

A synchronous domain. A message's id is the id of the command that sends it, unique in its room, and
its sender is the command's actor. Messages are in the order of their versions, not of their times.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from typing import Annotated, Any, ClassVar

from msgspec import Meta, field
from msgspec.structs import replace

from eventfleet import (
    Command,
    CommandContext,
    Decides,
    Domain,
    Event,
    Followed,
    ProjectedEvent,
    Rejection,
    Row,
    State,
    Totals,
    View,
    every,
)

MAX_CONTENT_CHARS = 2_000
MAX_KEPT_MESSAGES = 200
MAX_KEPT_CHARS = 200_000
"""Of the content of all kept messages, so that a room's state fits into a snapshot."""

Content = Annotated[str, Meta(min_length=1, max_length=MAX_CONTENT_CHARS)]
Id = Annotated[str, Meta(min_length=1, max_length=255)]
Instant = Annotated[datetime, Meta(tz=True)]


# Events


class ChatEvent(Event, kw_only=True):
    """`content` is that of a message sent or edited; `target_message_id` the message that is
    edited, deleted, or read (with all before it)."""

    room_id: Id
    sender_id: Id
    timestamp: Instant
    content: Content | None = None
    target_message_id: Id | None = None


class MessageSent(ChatEvent, kw_only=True):
    event_type: ClassVar[str] = "MESSAGE_SENT"
    message_id: Id


class MessageEdited(ChatEvent):
    event_type: ClassVar[str] = "MESSAGE_EDITED"


class MessageDeleted(ChatEvent):
    event_type: ClassVar[str] = "MESSAGE_DELETED"


class MessagesRead(ChatEvent):
    event_type: ClassVar[str] = "READ"


class MemberJoined(ChatEvent):
    event_type: ClassVar[str] = "MEMBER_JOINED"


class MemberLeft(ChatEvent):
    event_type: ClassVar[str] = "MEMBER_LEFT"


# State and evolve


class Message(State):
    """A visible message; `version` is that of the event that sent it."""

    id: str = ""
    sender_id: str = ""
    content: str = ""
    timestamp: datetime | None = None
    version: int = 0
    edited: bool = False


class Room(State):
    """`messages` are the newest visible ones, in order: all of them from version `from_version` on.

    `read` has the version up to which each reader has read.
    """

    version: int = 0
    messages: tuple[Message, ...] = ()
    from_version: int = 1
    members: tuple[str, ...] = ()
    read: dict[str, int] = field(default_factory=dict)

    def message(self, message_id: str) -> Message | None:
        """Return a kept message."""
        return next((each for each in reversed(self.messages) if each.id == message_id), None)

    def unread(self, reader: str) -> int:
        """Count the kept messages of others that a reader has not read."""
        last = self.read.get(reader, 0)
        return sum(each.version > last and each.sender_id != reader for each in self.messages)


def evolve(room: Room, event: Event) -> Room:
    room = replace(room, version=room.version + 1)
    match event:
        case MessageSent():
            sent = Message(
                id=event.message_id,
                sender_id=event.sender_id,
                content=event.content or "",
                timestamp=event.timestamp,
                version=room.version,
            )
            return keep_newest(replace(room, messages=(*room.messages, sent)))
        case MessageEdited(target_message_id=target, content=content):
            edited = (
                replace(each, content=content or "", edited=True) if each.id == target else each
                for each in room.messages
            )
            return keep_newest(replace(room, messages=tuple(edited)))
        case MessageDeleted(target_message_id=target):
            left = tuple(each for each in room.messages if each.id != target)
            return replace(room, messages=left)
        case MessagesRead(sender_id=reader, target_message_id=target):
            message = room.message(target or "")
            version = max(room.read.get(reader, 0), message.version if message else 0)
            return replace(room, read={**room.read, reader: version})
        case MemberJoined(sender_id=member):
            return replace(room, members=tuple(sorted({*room.members, member})))
        case MemberLeft(sender_id=member):
            read = {reader: version for reader, version in room.read.items() if reader != member}
            members = tuple(each for each in room.members if each != member)
            return replace(room, members=members, read=read)
    raise TypeError(f"no rule for {type(event).__name__}")


def keep_newest(room: Room) -> Room:
    """Drop the oldest messages while there are too many, or too long ones."""
    sizes = accumulate(len(message.content) for message in reversed(room.messages))
    fitting = sum(size <= MAX_KEPT_CHARS for size in sizes)
    dropped = len(room.messages) - min(fitting, MAX_KEPT_MESSAGES)
    if not dropped:
        return room
    oldest = room.messages[dropped - 1].version + 1
    return replace(room, messages=room.messages[dropped:], from_version=oldest)


# Commands


class SendMessage(Command):
    content: Content


class EditMessage(Command):
    target_message_id: Id
    content: Content


class DeleteMessage(Command):
    target_message_id: Id


class Read(Command):
    target_message_id: Id


class Join(Command):
    pass


class Leave(Command):
    pass


def decide(room: Room, command: Command, context: CommandContext) -> Event | Rejection:
    if not context.actor:
        return Rejection(
            "nobody is named as the sender: name an actor by a token's subject or, where no tokens "
            "are needed, by X-Actor, --actor or a socket's ?sender="
        )
    of_room: dict[str, Any] = {
        "room_id": context.aggregate_id,
        "sender_id": context.actor,
        "timestamp": context.time,
    }
    match command:
        case SendMessage(content=content):
            return MessageSent(message_id=context.command_id, content=content, **of_room)
        case Join():
            joined = context.actor in room.members
            return Rejection("has joined already") if joined else MemberJoined(**of_room)
        case Leave():
            joined = context.actor in room.members
            return MemberLeft(**of_room) if joined else Rejection("has not joined")
        case EditMessage() | DeleteMessage() | Read():
            return decide_on_message(command, context, of_room)
    raise TypeError(f"no rule for {type(command).__name__}")


def decide_on_message(
    command: EditMessage | DeleteMessage | Read, context: CommandContext, of_room: dict[str, Any]
) -> Event | Rejection:
    target = command.target_message_id
    sent = context.seen.get(target)
    if not isinstance(sent, MessageSent):
        return Rejection(f"the room has no message {target!r}")
    of_target = {**of_room, "target_message_id": target}
    if isinstance(command, Read):
        return MessagesRead(**of_target)
    if sent.sender_id != context.actor:
        return Rejection(f"the message {target!r} is of another sender")
    if isinstance(command, DeleteMessage):
        return MessageDeleted(**of_target)
    return MessageEdited(content=command.content, **of_target)


def target(command: EditMessage | DeleteMessage | Read) -> Sequence[str]:
    return [command.target_message_id]


# Snapshot rule

snapshot = every(100)

# Views


class ChatMessageView(Row):
    """A visible message; `version` is that of the event that sent it."""

    room_id: str
    message_id: str
    sender_id: str
    content: str
    timestamp: datetime
    version: int
    edited: bool = False


def message_of(event: ProjectedEvent) -> str | None:
    match event.data:
        case MessageSent(message_id=message):
            return message
        case MessageEdited(target_message_id=message) | MessageDeleted(target_message_id=message):
            return message
    return None


def project_message(row: ChatMessageView | None, event: ProjectedEvent) -> ChatMessageView | None:
    match event.data:
        case MessageSent() as sent:
            return ChatMessageView(
                room_id=sent.room_id,
                message_id=sent.message_id,
                sender_id=sent.sender_id,
                content=sent.content or "",
                timestamp=sent.timestamp,
                version=event.version,
            )
        case MessageEdited(content=content) if row:
            return replace(row, content=content or "", edited=True)
    return None


messages = View(
    "messages",
    row=ChatMessageView,
    key=message_of,
    project=project_message,
    indexes=[["room_id", "version"], ["sender_id"]],
)


class RoomRow(Row):
    """`sent` counts the messages that were sent, deleted ones included."""

    room_id: str
    active_at: datetime
    members: int = 0
    sent: int = 0


def project_room(row: RoomRow | None, event: ProjectedEvent) -> RoomRow:
    row = row or RoomRow(room_id=event.aggregate_id, active_at=event.time)
    match event.data:
        case MessageSent():
            return replace(row, sent=row.sent + 1, active_at=event.time)
        case MemberJoined():
            return replace(row, members=row.members + 1, active_at=event.time)
        case MemberLeft():
            return replace(row, members=row.members - 1, active_at=event.time)
    return replace(row, active_at=event.time)


class RoomsOfDay(Row):
    """The rooms whose last event is of one day, and the messages ever sent in them."""

    day: str
    rooms: int = 0
    sent: int = 0


by_activity: Totals[RoomRow, RoomsOfDay] = Totals(
    "rooms_by_activity",
    row=RoomsOfDay,
    by=["day"],
    group=lambda room: RoomsOfDay(day=room.active_at.date().isoformat()),
    add=lambda day, room: replace(day, rooms=day.rooms + 1, sent=day.sent + room.sent),
    remove=lambda day, room: replace(day, rooms=day.rooms - 1, sent=day.sent - room.sent),
    merge=lambda one, other: replace(
        one, rooms=one.rooms + other.rooms, sent=one.sent + other.sent
    ),
)

rooms = View(
    "rooms", row=RoomRow, project=project_room, indexes=[["active_at"]], totals=[by_activity]
)

# The Domain

chat = Domain(
    "chat",
    state=Room,
    evolve=evolve,
    events=[
        *(MessageSent, MessageEdited, MessageDeleted, MessagesRead),
        *(MemberJoined, MemberLeft),
    ],
    commands=[
        *(SendMessage, Join, Leave),
        *(Decides(kind, sees=target) for kind in (EditMessage, DeleteMessage, Read)),
    ],
    decide=decide,
    snapshot=snapshot,
    views=[messages, rooms],
    followed=Followed(commands=[SendMessage, EditMessage, DeleteMessage, Read, Join, Leave]),
)
