"""TimedWriter: measures the commits of a role."""

import time
from collections.abc import Sequence

from eventfleet.stores.contracts import PartitionWriter, Watermarks
from eventfleet.stores.histogram import Histogram
from eventfleet.topics.record import ProducerRecord


class TimedWriter:
    """PartitionWriter that counts the seconds of each commit, failed or not, in a histogram."""

    def __init__(self, writer: PartitionWriter, seconds: Histogram) -> None:
        self._writer, self._seconds = writer, seconds

    async def open(self) -> int | None:
        return await self._writer.open()

    async def watermarks(self) -> Watermarks:
        return await self._writer.watermarks()

    async def commit(
        self,
        records: Sequence[ProducerRecord],
        next_offset: int,
        last: Sequence[ProducerRecord] = (),
    ) -> None:
        began = time.perf_counter()
        try:
            await self._writer.commit(records, next_offset, last)
        finally:
            self._seconds.observe(time.perf_counter() - began)

    async def close(self) -> None:
        await self._writer.close()
