"""A server refuses what every command needs: known by the calls, told once, over by itself."""

import pytest

from eventfleet.stores import refusals
from eventfleet.stores.errors import Duplicate, RecordsTooLarge, ServerUnavailable
from eventfleet.stores.refusals import REFUSED_CALLS, REST_SECONDS, OperationRefusals
from eventfleet.stores.server_calls import timed_call

OUT_OF_DISK = ServerUnavailable("out of disk space")


class Time:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    monkeypatch.setattr(refusals, "monotonic", time := Time())
    return time


@pytest.fixture
def puts(time: Time) -> OperationRefusals:
    return OperationRefusals("MongoDB", "put")


def fail(puts: OperationRefusals, time: Time, times: int = REFUSED_CALLS) -> None:
    for _ in range(times):
        puts.note_failure(OUT_OF_DISK)
        time.seconds += 0.6


def test_a_refusal_that_lasts_is_told_once_at_its_begin_and_at_its_end(
    puts: OperationRefusals, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    fail(puts, time, 50)
    assert puts.is_refused
    puts.note_success()
    assert not puts.is_refused
    puts.note_success()
    assert caplog.messages == [
        "MongoDB refuses put, each of several times: out of disk space",
        "MongoDB takes put again",
    ]


def test_one_failed_call_of_many_is_no_refusal(
    puts: OperationRefusals, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        fail(puts, time, 2)
        puts.note_success()
        assert not puts.is_refused
    assert caplog.messages == []


def test_many_calls_that_fail_at_one_moment_are_no_refusal(
    puts: OperationRefusals, time: Time
) -> None:
    for _ in range(100):
        puts.note_failure(OUT_OF_DISK)
    assert not puts.is_refused


def test_a_record_that_is_too_large_says_nothing_about_others(
    puts: OperationRefusals, time: Time
) -> None:
    for _ in range(10):
        puts.note_failure(RecordsTooLarge("too large", []))
        time.seconds += 1
    assert not puts.is_refused


def test_at_rest_nothing_is_known(puts: OperationRefusals, time: Time) -> None:
    fail(puts, time)
    time.seconds += REST_SECONDS
    assert not puts.is_refused
    puts.note_failure(OUT_OF_DISK)
    assert not puts.is_refused, "it counts anew"
    time.seconds += 0.6
    fail(puts, time)
    assert puts.is_refused


def test_calls_are_noted_and_an_answer_is_a_success(
    time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = OperationRefusals("Kafka", "produce")
    monkeypatch.setattr(timed_call("kafka", "produce")._statistics, "refusals", noted)

    def call(error: Exception | None) -> None:
        try:
            with timed_call("kafka", "produce"):
                if error:
                    raise error
        except ServerUnavailable:
            time.seconds += 0.6
        except Duplicate:
            pass

    for ending in (None, Duplicate(0, "a", 1, "version")):
        for _ in range(REFUSED_CALLS):
            assert not noted.is_refused
            call(OUT_OF_DISK)
        assert noted.is_refused
        call(ending)
        assert not noted.is_refused
