"""The simulated broker is as defenceless as Kafka is with the old protocol of transactions."""

import pytest

from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.topics.record import ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec
from tests.simulation.scheduler import Scheduler
from tests.simulation.simulated_log import SimulatedLog
from tests.simulation.simulated_transactions import TIMEOUT_STEPS, Network, OldBroker

OWNER = "group", "source", 0
OUT = "out", 0


def record(value: bytes) -> ProducerRecord:
    return ProducerRecord("out", b"k", value, 0)


class Broker:
    """A broker with one producer, and what readers of committed records see."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(0)
        self.log = SimulatedLog(lambda: self.scheduler.steps)
        for topic in ("out", "source"):
            self.log.create(TopicSpec(topic, 1, 1))
        self.network = Network(self.log, self.scheduler, 0.0)
        self.requests: OldBroker = self.network.broker
        self.epoch = self.requests.init_producer_id(OWNER)
        self.sequence = 0

    def produce(self, value: bytes) -> None:
        self.requests.add_partitions(OWNER, self.epoch, [OUT])
        self.requests.produce(OWNER, self.epoch, OUT, self.sequence, [record(value)])
        self.sequence += 1

    def commit_offset(self, offset: int) -> None:
        self.requests.add_offsets(OWNER, self.epoch)
        self.requests.commit_offset(OWNER, self.epoch, offset)

    def end(self, stable: bool = True) -> None:
        self.requests.end(OWNER, self.epoch, commit=True, stable=stable)

    def seen(self) -> list[bytes | None]:
        entries = self.log.entries(*OUT)[: self.log.last_stable_offset(*OUT)]
        return [
            each.record.value
            for each in entries
            if each.record and not (each.transaction and each.transaction.aborted)
        ]

    @property
    def offset(self) -> int | None:
        return self.requests.committed(OWNER, stable=True)


def test_a_late_end_commits_half_of_the_next_transaction_without_its_offset() -> None:
    broker = Broker()
    broker.produce(b"one")
    broker.commit_offset(1)
    broker.end()
    broker.produce(b"two")
    broker.end()
    assert (broker.seen(), broker.offset) == ([b"one", b"two"], 1)


def test_an_end_that_was_done_is_done_again() -> None:
    broker = Broker()
    broker.produce(b"one")
    broker.end()
    broker.end()
    assert broker.seen() == [b"one"]


def test_a_late_offset_takes_the_place_of_the_next_transactions() -> None:
    broker = Broker()
    broker.commit_offset(2)
    broker.commit_offset(1)
    broker.end()
    assert broker.offset == 1


def test_a_repeated_batch_is_dropped() -> None:
    broker = Broker()
    broker.produce(b"one")
    broker.requests.produce(OWNER, broker.epoch, OUT, 0, [record(b"one")])
    broker.end()
    assert broker.seen() == [b"one"]


def test_a_batch_out_of_order_and_one_of_no_transaction_are_refused() -> None:
    broker = Broker()
    with pytest.raises(ServerUnavailable):
        broker.requests.produce(OWNER, broker.epoch, OUT, 0, [record(b"one")])
    broker.produce(b"one")
    with pytest.raises(ServerUnavailable):
        broker.requests.produce(OWNER, broker.epoch, OUT, 5, [record(b"six")])


def test_a_late_addition_opens_a_transaction_that_is_timed_out_and_fences() -> None:
    broker = Broker()
    broker.requests.add_offsets(OWNER, broker.epoch)
    for _ in range(TIMEOUT_STEPS + 2):
        broker.network.go_on()
        broker.scheduler.steps += 1
    assert not broker.log.open_transactions()
    with pytest.raises(Fenced):
        broker.produce(b"one")


def test_a_new_epoch_fences_whatever_is_late() -> None:
    broker = Broker()
    broker.produce(b"one")
    requests, late = broker.requests, broker.epoch
    requests.init_producer_id(OWNER)
    for request in (
        lambda: requests.add_partitions(OWNER, late, [OUT]),
        lambda: requests.produce(OWNER, late, OUT, 1, [record(b"two")]),
        lambda: requests.add_offsets(OWNER, late),
        lambda: requests.commit_offset(OWNER, late, 5),
        lambda: requests.end(OWNER, late, True, True),
    ):
        with pytest.raises(Fenced):
            request()
    assert (broker.seen(), broker.offset) == ([], None)


def test_an_offset_may_move_after_its_transaction() -> None:
    broker = Broker()
    broker.commit_offset(1)
    broker.end(stable=False)
    assert broker.requests.committed(OWNER, stable=False) is None
    broker.requests.settle()
    assert broker.offset == 1
