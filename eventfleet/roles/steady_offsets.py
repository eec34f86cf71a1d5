"""Reads the offsets of groups for judgement by commands: one answer "no offset" is no proof."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import count

from eventfleet.stores.contracts import Clock, LogReader
from eventfleet.stores.retry import REQUEST

DOUBT_SECONDS = 60.0
"""How long a role asks again for an offset that looks lost: after a crash of its only broker, a
coordinator may answer so for half a minute and more."""

STEADY_SECONDS = 15.0
"""How long commands ask again for an offset that looks lost or wrong. Each answer is a series of
them without an error; a broker that has just started gives errors in between."""

Looks = Callable[[Mapping[int, int]], bool]


async def read_steady_offsets(
    reader: LogReader, group: str, topic: str, looks_wrong: Looks, clock: Clock, seconds: float
) -> dict[int, int]:
    """Return a group's offsets by partition; again, for some seconds, while they look wrong.

    The highest offset counts that any answer has, of each partition. ServerUnavailable: an answer
    is missing, so nothing is known.
    """
    offsets: dict[int, int] = {}
    end = clock.steady() + timedelta(seconds=seconds)
    for asked in count(1):
        for partition, offset in (await reader.committed(group, topic)).items():
            offsets[partition] = max(offset, offsets.get(partition, 0))
        if not looks_wrong(offsets) or clock.steady() >= end:
            break
        await clock.sleep(REQUEST.pause(asked))
    return offsets
