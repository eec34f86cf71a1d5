"""Leases: who holds what, and until when, within one process."""

import time
from collections.abc import Hashable


class Leases:
    """The leases of the stores that no other process has open."""

    def __init__(self) -> None:
        self._held: dict[Hashable, tuple[str, float]] = {}

    def hold(self, name: Hashable, owner: str, seconds: float) -> bool:
        """Take or prolong a lease; False: another owner has it."""
        holder, until = self._held.get(name, (owner, 0.0))
        if holder != owner and until > time.monotonic():
            return False
        self._held[name] = (owner, time.monotonic() + seconds)
        return True

    def release(self, name: Hashable, owner: str) -> None:
        """Give up a lease, if this owner has it."""
        if self._held.get(name, ("", 0.0))[0] == owner:
            del self._held[name]
