"""Ids that are derived from others, so that what is made again has the same one."""

from hashlib import sha1

_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def derived_id(namespace: bytes, name: str) -> str:
    """Return the UUIDv5 of a name in a namespace's 16 bytes, at a fraction of uuid5's cost."""
    h = sha1(namespace + name.encode(), usedforsecurity=False).hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"
