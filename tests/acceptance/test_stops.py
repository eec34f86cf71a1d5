"""Processes that are asked to stop while their servers are away, or while they start."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import TIMEOUT_SECONDS
from tests.acceptance.http_service import HttpService
from tests.acceptance.kafka_by_hand import wait_for
from tests.conftest import running
from tests.servers.kafka import Kafka
from tests.servers.mongodb import RefusingMongoDB
from tests.servers.redis import Redis
from tests.servers.server import Server

ROLES = "append command snapshot relay project"


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    """Servers of the test's own, which it may stop."""
    with ExitStack() as stack:
        kinds = Kafka, RefusingMongoDB, Redis
        yield [stack.enter_context(running(kind)) for kind in kinds]


def test_a_stop_does_not_wait_for_servers_that_are_away(
    servers: list[Server], tmp_path: Path
) -> None:
    """Of a worker and a service that run, and of others that start meanwhile."""
    kafka, mongo, redis = servers
    urls = kafka.address, mongo.url, redis.url  # type: ignore[attr-defined]
    with CommandFleet(urls, tmp_path, "eventfleet.domains.orders") as fleet:
        (worker,) = fleet.start(ROLES)
        service = HttpService(fleet.environment, fleet.folder)
        try:
            wait_for(service.ready, "the service to be ready")
            for server in servers:
                server.kill()
            wait_for(lambda: " waits: " in worker.get("/ready")[1], "the worker to wait")
            (starting,) = fleet.begin(ROLES)
            wait_for(partial(has, starting, "Kafka does not answer"), "a start that waits")
            for process in (worker.process, starting.process, service.process):
                process.terminate()
            for process in (worker.process, starting.process, service.process):
                assert process.wait(TIMEOUT_SECONDS) == 0, worker.output() + service.said()
        finally:
            service.process.kill()
            service.process.wait(TIMEOUT_SECONDS)
        for said in (worker.output(), starting.output(), service.said()):
            assert "Traceback" not in said
            assert "was destroyed" not in said
            assert "unforeseen error" not in said
        for server in servers:
            server.start()


def has(worker: object, text: str) -> bool:
    return text in worker.output()  # type: ignore[attr-defined]
