"""A MongoDB whose commands fail."""

from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from eventfleet.stores.errors import HungUp, ServerUnavailable, StoreError
from tests.conftest import running
from tests.servers.mongodb import MongoDB

PATIENT = 20.0
HASTY = 0.4
SLACK = 10.0


class FailingMongoDB(MongoDB):
    """Takes `configureFailPoint`."""

    def command(self) -> Sequence[str | Path]:
        return *super().command(), "--enable-test-commands"


@pytest.fixture(scope="module")
def server() -> Iterator[MongoDB]:
    with running(FailingMongoDB) as started:
        assert isinstance(started, MongoDB)
        yield started


@contextmanager
def failing(server: MongoDB, commands: list[str], mode: Any = "alwaysOn", **data: Any) -> Any:
    """The server fails these commands of the stores' connections."""
    point = {"configureFailPoint": "failCommand"}
    scoped = {"failCommands": commands, "appName": "eventfleet", **data}
    with MongoClient[dict[str, Any]](server.url) as client:
        client.admin.command({**point, "mode": mode, "data": scoped})
        try:
            yield
        finally:
            client.admin.command({**point, "mode": "off"})


COMMANDS = [
    "count",
    *("insert", "update", "delete", "find", "getMore", "aggregate", "findAndModify"),
    *("createIndexes", "listIndexes", "commitTransaction"),
]


async def refused(awaitable: Awaitable[Any], kind: type[StoreError]) -> str:
    """The message; nothing of the driver is chained to the error.

    The driver looks for a server again when one closes a connection; where it finds none in time
    it says so as of a server that has never answered.
    """
    kinds = (ServerUnavailable, HungUp) if kind is ServerUnavailable else (kind,)
    with pytest.raises(StoreError) as caught:
        await awaitable
    assert type(caught.value) in kinds, caught.value
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "Topology" not in str(caught.value)
    return str(caught.value)
