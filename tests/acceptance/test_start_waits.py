"""Workers and services that are started while a server is away."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import TIMEOUT_SECONDS
from tests.acceptance.http_service import HttpService
from tests.acceptance.kafka_by_hand import wait_for
from tests.servers.kafka import Kafka
from tests.servers.mongodb import RefusingMongoDB
from tests.servers.redis import Redis
from tests.servers.server import Server


def starts_that_wait(fleet: CommandFleet, server: Server, name: str, roles: str) -> None:
    """They say what they wait for, as long as EVENTFLEET_START_TIMEOUT, and then work or end."""
    server.kill()
    (worker,) = fleet.begin(roles, START_TIMEOUT="120")
    (hasty,) = fleet.begin(roles, START_TIMEOUT="1")
    service = HttpService(fleet.environment, fleet.folder)
    try:
        says = f"{name} does not answer"
        outputs: list[Callable[[], str]] = [worker.output, hasty.output, service.said]
        for output in outputs:
            wait_for(partial(_has, output, says), f"a start to say: {says}")
        assert hasty.process.wait(TIMEOUT_SECONDS) == 1
        last = hasty.output().splitlines()[-1]
        assert last.startswith(f"eventfleet: {name} does not answer at ")
        for running_one in (worker.process, service.process):
            assert running_one.poll() is None
        assert "tried again (see EVENTFLEET_START_TIMEOUT)" in worker.output()
        server.start()
        wait_for(worker.ready, "the worker to be ready")
        wait_for(service.ready, "the service to be ready")
        assert "all servers answer after " in worker.output()
        assert worker.stop() == 0
    finally:
        service.process.kill()
        service.process.wait(TIMEOUT_SECONDS)


def _has(output: Callable[[], str], text: str) -> bool:
    return text in output()


def test_mongodb_is_waited_for(
    kafka: str, own_mongo: RefusingMongoDB, redis_url: str, tmp_path: Path
) -> None:
    servers = kafka, own_mongo.url, redis_url
    with CommandFleet(servers, tmp_path, "eventfleet.domains.orders") as fleet:
        starts_that_wait(fleet, own_mongo, "MongoDB", "append snapshot relay")


def test_kafka_is_waited_for(
    own_kafka: Kafka, mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    servers = own_kafka.address, mongo_url, redis_url
    with CommandFleet(servers, tmp_path, "eventfleet.domains.orders") as fleet:
        starts_that_wait(fleet, own_kafka, "Kafka", "append")


def test_redis_is_waited_for_where_commands_need_it(
    kafka: str, mongo_url: str, own_redis: Redis, tmp_path: Path
) -> None:
    servers = kafka, mongo_url, own_redis.url
    with CommandFleet(servers, tmp_path, "eventfleet.domains.orders") as fleet:
        starts_that_wait(fleet, own_redis, "Redis", "command")
