"""The rights on a topic, as brokers tell them or don't."""

import pytest

from eventfleet.stores.kafka.topic_states import _state

UNTOLD = -(2**31)


@pytest.mark.parametrize(
    ("operations", "lacks"),
    [
        (1 << 3 | 1 << 4 | 1 << 8, set()),
        (1 << 3 | 1 << 8, {"Write"}),
        (1 << 8, {"Read", "Write"}),
        (0, set()),
        (UNTOLD, set()),
    ],
)
def test_a_broker_that_does_not_tell_rights_refuses_none(operations: int, lacks: set[str]) -> None:
    topic = {"error_code": 0, "topic": "t", "partitions": [{}], "operations": operations}
    assert _state(topic).lacks == lacks
