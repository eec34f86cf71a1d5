"""Event ids: derived from the command's id, so that a repeated command is the same event."""

from uuid import UUID

from eventfleet.topics.derived_id import derived_id

EVENT_IDS = UUID("6f1c7c52-4f3e-5d0c-9a57-2f6f0f2f7a11")
_NAMESPACE = EVENT_IDS.bytes


def event_id(domain: str, aggregate_id: str, command_id: str, index: int = 0) -> str:
    """Return the id of a command's event, the first unless `index` says another.

    It is the UUIDv5 of its arguments in EVENT_IDS.
    """
    return derived_id(_NAMESPACE, f"{domain}\0{aggregate_id}\0{command_id}\0{index}")
