"""The service does what its OpenAPI document says, whatever is sent to it."""

import os
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.http_service import HttpService, sent, serving
from tests.acceptance.kafka_by_hand import wait_for

LIMIT = 600
SEED = os.environ.get("SEED", "1")
"""The requests are made from it: another seed makes others."""

PATIENCE = "30"
"""Seconds for an answer: more than the service takes for one that waits for a stage in vain."""

MODULES = "eventfleet.domains.orders,eventfleet.domains.bank,examples.chat"
VIEWS = {"orders": "orders", "bank": "accounts", "chat": "messages"}
PLACE = {"customer": "ann", "total": 1999, "currency": "EUR"}
CHECKS = [
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_headers_conformance", "response_schema_conformance", "unsupported_method"),
    "negative_data_rejection",
]


@pytest.fixture
def service(kafka: str, mongo_url: str, redis_url: str, tmp_path: Path) -> Iterator[HttpService]:
    servers, settings = (
        (kafka, mongo_url, redis_url),
        {"DOMAINS": MODULES, "HTTP_OPERATIONS": "examples.chat.rooms"},
    )
    with CommandFleet(servers, tmp_path, "eventfleet.domains.orders", **settings) as fleet:
        fleet.start("append snapshot relay project")
        with serving(fleet.environment, fleet.folder) as service, service.client() as client:
            for domain, view in VIEWS.items():
                path = f"/views/{domain}/{view}"
                wait_for(lambda path=path: client.get(path).is_success, f"{path} to be built")  # type: ignore[misc]
            assert sent(client, "orders/o-1/Place?wait=appended", PLACE).status_code == 202
            yield service


def test_no_answer_is_other_than_described(service: HttpService, tmp_path: Path) -> None:
    schemathesis = Path(sysconfig.get_path("scripts"), "schemathesis")
    done = subprocess.run(
        [
            *(str(schemathesis), "run", f"{service.url}/openapi.json"),
            *("--checks", ",".join(CHECKS), "--max-examples", "5", "--seed", SEED),
            *("--phases", "examples,coverage,fuzzing", "--no-color"),
            *("--request-timeout", PATIENCE),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stdout + done.stderr + service.said()[-5000:]
