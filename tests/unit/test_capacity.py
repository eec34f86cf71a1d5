"""The arithmetic of capacity, and the table in the docs that it makes."""

from pathlib import Path

from benchmarks.capacity import (
    CHUNK_RECORDS,
    COSTS,
    LOADS,
    STORE_RATE,
    Sizes,
    compute,
    rows,
    sample_sizes,
)

SCALING = Path(__file__).parents[2] / "docs" / "scaling.md"
SIZES = Sizes(command=100, reply=200, event=300, stored=400, document=500, index=100)


def test_a_capacity_is_the_load_times_what_each_record_takes() -> None:
    capacity = compute(1_000_000, {"command": 35.0, "append": 14.0}, 20_000, 2_000, SIZES)
    assert capacity.workers == {"command": 50, "append": 20}
    assert capacity.partitions == 256
    assert (capacity.least_transactions, capacity.most_transactions) == (1_000, 25_600)
    assert capacity.store_servers == 50
    assert (capacity.kafka_in, capacity.kafka_replication) == (1_160e6, 2_320e6)
    assert (capacity.kafka_out, capacity.kafka_disk) == (1_200e6, 3_480e6)
    assert (capacity.store_in, capacity.store_disk) == (500e6, 1_800e6)


def test_a_small_load_takes_a_worker_of_each_role_and_a_transaction_a_record_at_most() -> None:
    capacity = compute(100, COSTS, STORE_RATE, CHUNK_RECORDS, SIZES)
    assert set(capacity.workers.values()) == {1}
    assert (capacity.partitions, capacity.store_servers) == (8, 1)
    assert (capacity.least_transactions, capacity.most_transactions) == (4, 400)


def test_the_docs_have_the_table_that_the_arithmetic_makes() -> None:
    sizes = sample_sizes()
    columns = [compute(load, COSTS, STORE_RATE, CHUNK_RECORDS, sizes) for load in LOADS]
    text = SCALING.read_text(encoding="utf-8")
    for row in rows(columns):
        assert f"| {' | '.join(row)} |" in text
