"""Events of chat rooms."""

from datetime import timedelta
from typing import Any

import msgspec

from eventfleet.testing import NOW
from eventfleet.topics.event import EventRecord, event_id
from eventfleet.topics.names import wire_name
from examples.chat.domain import (
    ChatEvent,
    MessageSent,
)


def record(room: str, version: int, payload: ChatEvent) -> EventRecord:
    command = payload.message_id if isinstance(payload, MessageSent) else f"c{version}"
    return EventRecord(
        id=event_id("chat", room, command),
        type=wire_name(type(payload)),
        domain="chat",
        aggregate_id=room,
        time=payload.timestamp,
        data=chat_data(payload),
        version=version,
    )


def chat_data(payload: ChatEvent) -> dict[str, Any]:

    found: dict[str, Any] = msgspec.to_builtins(payload)
    return found


def common(version: int, sender: str = "ann") -> dict[str, Any]:
    moment = NOW + timedelta(seconds=version)
    return {"room_id": "r", "sender_id": sender, "timestamp": moment}


def sent(version: int) -> MessageSent:
    return MessageSent(message_id=f"m{version}", content=f"text {version}", **common(version))
