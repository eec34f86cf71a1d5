"""An aggregate's partition is the one that Kafka's own clients choose."""

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as signed_murmur2
from hypothesis import given
from hypothesis import strategies as st

from eventfleet.topics.partitioner import murmur2, partition_of

keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(keys, st.integers(1, 1000))
def test_the_partition_is_that_of_the_default_partitioner(key: str, partitions: int) -> None:
    everywhere = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(
        key.encode(), everywhere, everywhere
    )


@given(st.binary(max_size=300))
def test_the_hash_is_kafkas_for_any_bytes(key: bytes) -> None:
    assert murmur2(key) == signed_murmur2(key) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_that_of_the_java_client(key: bytes, hashed: int) -> None:
    assert murmur2(key) == hashed & 0xFFFFFFFF


def test_aggregates_are_spread() -> None:
    counts = [0] * 8
    for number in range(8000):
        counts[partition_of(f"order-{number}", 8)] += 1
    assert min(counts) > 800
    assert max(counts) < 1200
