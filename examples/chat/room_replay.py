"""RoomReplay: the visible messages of a room, from its events, the newest first. Pure."""

from eventfleet import Event
from examples.chat.domain import Message, MessageDeleted, MessageEdited, MessageSent

SHOWN = ("MESSAGE_SENT", "MESSAGE_EDITED", "MESSAGE_DELETED")
"""The types of the events that change what is visible."""


class RoomReplay:
    """Replays a room backwards, so that only as much is read as there is to be shown.

    What became of a message is known before the message itself is: its last edit counts, and of a
    deleted one nothing is left.
    """

    def __init__(self) -> None:
        self.newest_first: list[Message] = []
        self._deleted: set[str] = set()
        self._edits: dict[str, str] = {}

    def apply(self, event: Event, version: int) -> None:
        """Apply the event before all those that were applied."""
        match event:
            case MessageDeleted(target_message_id=target):
                self._deleted.add(target or "")
            case MessageEdited(target_message_id=target, content=content):
                self._edits.setdefault(target or "", content or "")
            case MessageSent(message_id=message_id) if message_id not in self._deleted:
                self.newest_first.append(
                    Message(
                        id=message_id,
                        sender_id=event.sender_id,
                        content=self._edits.get(message_id, event.content or ""),
                        timestamp=event.timestamp,
                        version=version,
                        edited=message_id in self._edits,
                    )
                )
