"""Ids that sort by the time of their making."""

import os
import time


class Uuid7Generator:
    """IdGenerator of RFC 9562 UUIDv7; a counter orders the ids of one millisecond."""

    def __init__(self) -> None:
        self._last = 0

    def new(self) -> str:
        millis, fresh = time.time_ns() // 1_000_000, int.from_bytes(os.urandom(9), "big")
        # 12 bits of counter room: the random part starts below half of it.
        self._last = max((millis << 12) | (fresh & 0x7FF), self._last + 1)
        stamp, counter = self._last >> 12, self._last & 0xFFF
        tail = fresh >> 10 & ((1 << 62) - 1)
        text = f"{stamp << 80 | 7 << 76 | counter << 64 | 2 << 62 | tail:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
