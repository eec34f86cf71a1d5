"""Which of two failures of a transaction is raised."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import IllegalOperation, KafkaTimeoutError, ProducerFenced

from eventfleet.stores.kafka.transactional_writer import _gather

FENCED, CAUSE, STATE = ProducerFenced(), KafkaTimeoutError(), IllegalOperation()


async def ends(with_: BaseException | None, ended: list[Any]) -> None:
    await asyncio.sleep(0)
    ended.append(with_)
    if with_:
        raise with_


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (CAUSE, FENCED, FENCED),
        (AssertionError(), FENCED, FENCED),
        (STATE, CAUSE, CAUSE),
        (STATE, None, STATE),
        (ValueError(), STATE, ValueError()),
    ],
    ids=repr,
)
async def test_a_fence_goes_before_a_cause_and_a_cause_before_a_state(
    one: BaseException, other: BaseException | None, told: BaseException
) -> None:
    for work in ((one, other), (other, one)):
        ended: list[Any] = []
        with pytest.raises(type(told)):
            await _gather(*(ends(each, ended) for each in work))
        assert ended == [*work]


async def test_without_a_failure_nothing_is_raised() -> None:
    ended: list[Any] = []
    await _gather(ends(None, ended), ends(None, ended))
    assert ended == [None, None]
