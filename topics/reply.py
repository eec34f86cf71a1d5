"""The answer to a command, on `<domain>.replies`."""

from typing import Any

import msgspec

from topics.event import EventRecord

_write = msgspec.json.Encoder().encode


def reply(command: EventRecord, outcome: str, details: dict[str, Any]) -> bytes:
    """A JSON object: the command's id, name and aggregate, the outcome's name and details."""
    answer = {
        "command_id": command.id,
        "command": command.type,
        "aggregate_id": command.aggregate_id,
        "outcome": outcome,
        "reply_to": command.reply_to,
        "correlation_id": command.correlation_id,
        **details,
    }
    return _write(answer)
