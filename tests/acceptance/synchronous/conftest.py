"""One fleet of a kind for all of the folder, and for each test a service and a purse of its own."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest
import pytest_asyncio

from eventfleet.service.event_service import EventService
from tests.acceptance.fleet_kinds import FILE, KINDS
from tests.acceptance.synchronous.account_fleet import (
    MODULE,
    Purses,
    PursesOnFile,
    PursesOnServers,
    opened,
)
from tests.conftest import running
from tests.servers.kafka import Kafka
from tests.servers.mongodb import RefusingMongoDB


@pytest.fixture(scope="package", params=KINDS)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Purses]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "purses.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.syspath_prepend(folder)
        if request.param == FILE:
            fleet: Purses = PursesOnFile(folder, "purses")
        else:
            stream = stack.enter_context(running(Kafka))
            store = stack.enter_context(running(RefusingMongoDB))
            fleet = PursesOnServers(stream, store, request.getfixturevalue("redis_url"), folder)
        with fleet:
            fleet.start("append")
            yield fleet


@pytest_asyncio.fixture
async def service(fleet: Purses) -> AsyncIterator[EventService]:
    async with opened(fleet) as service:
        yield service


@pytest.fixture
def purse(request: pytest.FixtureRequest) -> str:
    """An aggregate of the test's own."""
    return f"purse-{request.node.name}"
