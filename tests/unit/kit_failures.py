"""Failures of the test kit."""

from collections.abc import Callable

import pytest


def failure(work: Callable[[], object]) -> list[str]:
    with pytest.raises(AssertionError) as caught:
        work()
    return str(caught.value).splitlines()
