"""RetryPolicy: pauses that grow between bounds, with jitter; and which errors end a retry."""

import ast
from itertools import count
from pathlib import Path

import pytest

from eventfleet.stores import retry
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.retry import RetryPolicy

AWAY = ServerUnavailable("away")
POLICIES = {name: each for name, each in vars(retry).items() if isinstance(each, RetryPolicy)}


class Call:
    """A call that raises these errors, one try after the other, and then returns its number."""

    def __init__(self, *errors: Exception) -> None:
        self._errors, self.tries, self.pauses = [*errors], count(1), list[float]()

    async def __call__(self) -> int:
        number = next(self.tries)
        if number <= len(self._errors):
            raise self._errors[number - 1]
        return number

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def retried(self, attempts: int = retry.WITHOUT_LIMIT) -> int:
        policy = RetryPolicy(0.1, 0.4, attempts)
        return await policy.retry(
            self, lambda error: isinstance(error, ServerUnavailable), sleep=self.sleep
        )


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_each_pause_lies_between_the_half_and_the_whole_of_a_bound_that_doubles(
    policy: RetryPolicy,
) -> None:
    for failures in range(1, 100):
        whole = min(policy.first_seconds * 2 ** (failures - 1), policy.longest_seconds)
        assert policy.pause(failures, lambda: 0.0) == whole / 2
        assert whole / 2 < policy.pause(failures, lambda: 0.999) < whole
        assert whole / 2 <= policy.pause(failures) <= whole
    assert len({policy.pause(3) for _ in range(20)}) > 1, "jitter"


def test_pauses_have_a_bound_after_any_number_of_failures() -> None:
    assert 2.5 <= RetryPolicy(0.1, 5.0).pause(10**6) <= 5.0


async def test_a_call_is_repeated_after_growing_pauses() -> None:
    call = Call(*[AWAY] * 5)
    assert await call.retried() == 6
    for pause, whole in zip(call.pauses, (0.1, 0.2, 0.4, 0.4, 0.4), strict=True):
        assert whole / 2 <= pause <= whole


async def test_the_last_attempt_raises_its_own_error() -> None:
    last = ServerUnavailable("for the last time")
    call = Call(AWAY, AWAY, last, AWAY)
    with pytest.raises(ServerUnavailable) as caught:
        await call.retried(attempts=3)
    assert caught.value is last
    assert (next(call.tries), len(call.pauses)) == (4, 2)


async def test_an_error_that_no_repeat_can_help_is_raised_at_once() -> None:
    call = Call(AWAY, LookupError("a bug"), AWAY)
    with pytest.raises(LookupError):
        await call.retried()
    assert (next(call.tries), len(call.pauses)) == (3, 1)


def test_policies_are_made_and_named_in_one_place() -> None:
    package = Path(retry.__file__).parents[1]
    places = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("RetryPolicy")
    }
    assert places == {"stores/retry.py"}
