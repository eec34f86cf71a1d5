"""Kafka's murmur2 partitioner, as its Java client computes it, and where events go by it."""

from functools import lru_cache
from typing import NamedTuple

from eventfleet.topics.codec import EVENT_HEADERS
from eventfleet.topics.record import ProducerRecord

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Return the 32-bit MurmurHash2 of the key, seeded as in Kafka's `Utils.murmur2`."""
    length = len(key)
    h = _SEED ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(key[i : i + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if whole < length:
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


@lru_cache(maxsize=16_384)
def partition_of(aggregate_id: str, partitions: int) -> int:
    """Return the partition, 0..partitions-1, that holds an aggregate."""
    return (murmur2(aggregate_id.encode()) & 0x7FFFFFFF) % partitions


class Destination(NamedTuple):
    """The topic and partition of an event; `name` has both, for answers."""

    topic: str
    partition: int
    name: str

    def record(self, aggregate_id: str, value: bytes) -> ProducerRecord:
        """Return the record of an event there, whose bytes are given."""
        key = aggregate_id.encode()
        return ProducerRecord(self.topic, key, value, self.partition, EVENT_HEADERS)


@lru_cache(maxsize=16_384)
def destination_of(topic: str, aggregate_id: str, partitions: int) -> Destination:
    """Return where an aggregate's events go; `topic` is the `<domain>.events` of its domain."""
    partition = partition_of(aggregate_id, partitions)
    return Destination(topic, partition, f"{topic}/{partition}")
