"""Nothing is logged: a schedule tells its story itself, and thousands of tracebacks take time."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def logs_nothing() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)
