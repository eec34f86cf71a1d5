"""Channels, in memory."""

from time import monotonic

from eventfleet.stores.memory.broadcast import Broadcast


class MemoryChannels(Broadcast[bytes]):
    """Channels: the server and any number of clients."""

    def __init__(self) -> None:
        super().__init__()
        self._claims: dict[str, float] = {}

    async def claim(self, name: str, seconds: float) -> bool:
        self._check_running()
        now = monotonic()
        self._claims = {each: end for each, end in self._claims.items() if end > now}
        if name in self._claims:
            return False
        self._claims[name] = now + seconds
        return True
