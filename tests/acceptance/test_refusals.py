"""A service is not ready while a server answers reads and refuses what commands write."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.http_service import HttpService, serving
from tests.acceptance.kafka_by_hand import wait_for
from tests.servers.mongodb import RefusingMongoDB
from tests.servers.redis import Redis

OUT_OF_DISK_SPACE = 14031


def full_disk(mongo: RefusingMongoDB, redis: Redis) -> AbstractContextManager[None]:
    return mongo.failing("insert", "update", "bulkWrite", errorCode=OUT_OF_DISK_SPACE)


@contextmanager
def full_memory(mongo: RefusingMongoDB, redis: Redis) -> Iterator[None]:
    assert redis.execute("CONFIG SET maxmemory 1") == "+OK"
    yield
    assert redis.execute("CONFIG SET maxmemory 0") == "+OK"


def unready(service: HttpService) -> object:
    answer = httpx.get(f"{service.url}/ready")
    return answer.status_code == 503 and answer.json()


@pytest.mark.parametrize(("refuse", "server"), [(full_disk, "MongoDB"), (full_memory, "Redis")])
def test_a_service_is_not_ready_while_a_server_refuses_writes(
    kafka: str,
    own_mongo: RefusingMongoDB,
    own_redis: Redis,
    tmp_path: Path,
    refuse: Callable[[RefusingMongoDB, Redis], AbstractContextManager[None]],
    server: str,
) -> None:
    servers = kafka, own_mongo.url, own_redis.url
    with (
        CommandFleet(servers, tmp_path, "eventfleet.domains.orders") as fleet,
        serving(fleet.environment, fleet.folder) as service,
    ):
        with refuse(own_mongo, own_redis):
            wait_for(lambda: unready(service), "the service to be unready")
            assert server in str(unready(service))
        wait_for(service.ready, "the service to be ready again")
        assert f"not ready: {server} refuses what commands write: " in service.said()
        assert "ready again: all servers answer, and take what commands write" in service.said()
