"""Proves that a group has no offset: one answer of its coordinator is no proof.

The coordinator of a broker that was killed and has just started answers by turns that it still
loads its groups, and that there is no offset, without an error: for half a minute and more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from itertools import count

from aiokafka.errors import KafkaError

from eventfleet.stores.retry import REQUEST

ABSENT_ANSWERS = 3
ABSENT_ANSWERS_AFTER_ERROR = 12

Fetch = Callable[[], Awaitable[dict[int, int]]]


async def prove_offsets(fetch: Fetch, partitions: Collection[int]) -> dict[int, int]:
    """Fetch offsets until each is known, or absent in several answers with no error in between.

    A retriable error is asked again, and is a reason to ask for longer; the caller bounds the time.
    An offset counts that any answer has.
    """
    known: dict[int, int] = {}
    needed, absent = ABSENT_ANSWERS, 0
    for asked in count(1):
        try:
            for partition, offset in (await fetch()).items():
                known[partition] = max(offset, known.get(partition, 0))
            absent += 1
        except KafkaError as error:
            if not error.retriable:
                raise
            needed, absent = ABSENT_ANSWERS_AFTER_ERROR, 0
        if absent and (known.keys() >= set(partitions) or absent == needed):
            break
        await asyncio.sleep(REQUEST.pause(asked))
    return known
