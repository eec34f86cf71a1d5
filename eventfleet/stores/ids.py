"""Ids that sort by the time of their making."""

import os
import time

ID_BYTES = 9
RANDOM_BYTES = 64 * ID_BYTES
"""Asked for at once: each call lets other threads go first."""


class Uuid7Generator:
    """IdGenerator of RFC 9562 UUIDv7; a counter orders the ids of one millisecond."""

    def __init__(self) -> None:
        self._last = 0
        self._process, self._random = 0, b""

    def new(self) -> str:
        if not self._random or self._process != os.getpid():  # else a fork would repeat its ids
            self._process, self._random = os.getpid(), os.urandom(RANDOM_BYTES)
        own, self._random = self._random[:ID_BYTES], self._random[ID_BYTES:]
        millis, fresh = time.time_ns() // 1_000_000, int.from_bytes(own, "big")
        # 12 bits of counter room: the random part starts below half of it.
        self._last = max((millis << 12) | (fresh & 0x7FF), self._last + 1)
        stamp, counter = self._last >> 12, self._last & 0xFFF
        tail = fresh >> 10 & ((1 << 62) - 1)
        text = f"{stamp << 80 | 7 << 76 | counter << 64 | 2 << 62 | tail:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
