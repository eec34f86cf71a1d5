"""Event ids: derived from the command's id, so that a repeated command is the same event."""

from hashlib import sha1
from uuid import UUID

EVENT_IDS = UUID("6f1c7c52-4f3e-5d0c-9a57-2f6f0f2f7a11")
_NAMESPACE = EVENT_IDS.bytes
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def event_id(domain: str, aggregate_id: str, command_id: str, index: int = 0) -> str:
    """The id of a command's event, the first unless `index` says another.

    It is the UUIDv5 of its arguments in EVENT_IDS, made here at a fraction of uuid5's cost.
    """
    name = f"{domain}\0{aggregate_id}\0{command_id}\0{index}"
    h = sha1(_NAMESPACE + name.encode(), usedforsecurity=False).hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"
