"""Ids of UUIDv7: sorted, and of one process alone."""

import os

from eventfleet.stores.ids import Uuid7Generator


def test_ids_sort_by_the_order_of_their_making() -> None:
    ids = Uuid7Generator()
    made = [ids.new() for _ in range(10_000)]
    assert sorted({*made}) == made


def test_a_forked_process_makes_ids_of_its_own() -> None:
    ids = Uuid7Generator()
    ids.new()
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.write(writing, ids.new().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        forked = said.read()
    os.waitpid(child, 0)
    assert len(forked) == 36
    assert forked[19:] != ids.new()[19:]
