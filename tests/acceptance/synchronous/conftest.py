"""One fleet for all of the folder, and for each test a service and a purse of its own."""

import sys
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from eventfleet.service.event_service import EventService
from tests.acceptance.synchronous.account_fleet import Purses, opened
from tests.conftest import running
from tests.servers.kafka import Kafka
from tests.servers.mongodb import RefusingMongoDB


@pytest.fixture(scope="package")
def fleet(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Purses]:
    folder = tmp_path_factory.mktemp("team")
    sys.path.insert(0, str(folder))
    with (
        running(Kafka) as stream,
        running(RefusingMongoDB) as store,
        Purses(stream, store, redis_url, folder) as fleet,
    ):
        fleet.start("append")
        yield fleet
    sys.path.remove(str(folder))


@pytest_asyncio.fixture
async def service(fleet: Purses) -> AsyncIterator[EventService]:
    async with opened(fleet) as service:
        yield service


@pytest.fixture
def purse(request: pytest.FixtureRequest) -> str:
    """An aggregate of the test's own."""
    return f"purse-{request.node.name}"
