"""A client generated from the OpenAPI document of all sample domains sends commands and reads."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import TIMEOUT_SECONDS
from tests.acceptance.http_service import HttpService, serving
from tests.unit.http_fixture import token

SAMPLES = ("bank", "orders", "trading", "cart", "game", "process_log")
PACKAGE = "generated_eventfleet_client"
TOKEN = token(scope="*:read *:write")

Import = Callable[[str], Any]


@pytest.fixture(scope="module")
def service(
    kafka: str, mongo_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HttpService]:
    folder, servers = tmp_path_factory.mktemp("fleet"), (kafka, mongo_url, redis_url)
    modules = ",".join(f"eventfleet.domains.{name}" for name in SAMPLES)
    settings = {"DOMAINS": modules, "TOKEN_KEY_FILE": str(folder / "key")}
    (folder / "key").write_text("a secret of more than 32 characters\n")
    with CommandFleet(servers, folder, "eventfleet.domains.orders", **settings) as fleet:
        fleet.start("append snapshot relay")
        with serving(fleet.environment, fleet.folder) as service:
            yield service


def generate(service: HttpService, folder: Path) -> None:
    """Writes the package; each part of the document that the generator skips is a warning."""
    document, scripts = folder / "openapi.json", Path(sysconfig.get_path("scripts"))
    with service.client(TOKEN) as client:
        document.write_text(client.get("/openapi.json").text)
    done = subprocess.run(
        [
            *(str(scripts / "openapi-python-client"), "generate", "--fail-on-warning"),
            *("--path", document, "--meta", "none", "--output-path", folder / PACKAGE),
        ],
        env=os.environ | {"PATH": os.pathsep.join([str(scripts), os.environ["PATH"]])},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()


@pytest.fixture(scope="module")
def generated(service: HttpService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Import]:
    """Imports a module of the generated package."""
    folder = tmp_path_factory.mktemp("client")
    generate(service, folder)
    sys.path.insert(0, str(folder))
    yield lambda name: import_module(f"{PACKAGE}.{name}")
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def client(service: HttpService, generated: Import) -> Iterator[Any]:
    with generated("client").AuthenticatedClient(
        service.url, TOKEN, timeout=TIMEOUT_SECONDS
    ) as client:
        yield client


def test_an_asynchronous_command_is_sent_and_its_state_read(generated: Import, client: Any) -> None:
    models = generated("models")
    place = models.OrdersPlace(customer="ann", total=1999, currency="EUR")
    sent = generated("api.orders.send_orders_place").sync(
        "a/1", client=client, body=place, wait=models.Stage.APPENDED, idempotency_key="c"
    )
    assert isinstance(sent, models.CommandResult)
    assert (sent.outcome, sent.command_id, sent.stage) == ("accepted", "c", "appended")
    found = generated("api.orders.state_orders").sync("a/1", client=client)
    assert isinstance(found, models.OrdersAggregateState)
    assert (found.version, found.state.status, found.state.total) == (1, "placed", 1999)
    page = generated("api.orders.events_orders").sync("a/1", client=client)
    (event,) = page.events
    assert isinstance(event, models.OrdersPlacedRecord)
    assert (event.subject, event.actor, event.data.customer) == ("a/1", "ann", "ann")


def test_a_synchronous_command_is_sent_and_a_rejected_one_is_a_problem(
    generated: Import, client: Any
) -> None:
    models = generated("models")
    opened = generated("api.bank.send_bank_open").sync(
        "b-1", client=client, body=models.BankOpen(owner="ann", currency="EUR")
    )
    assert (opened.outcome, opened.version) == ("accepted", 1)
    refused = generated("api.bank.send_bank_withdraw").sync(
        "b-1", client=client, body=models.BankWithdraw(amount=5)
    )
    assert isinstance(refused, models.ProblemDetails)
    assert refused.type_ == "urn:problem-type:eventfleet:rejected"
    patch = generated("api.bank.diff_bank").sync("b-1", client=client, first=0, second=1).patch
    assert "/owner" in {step.additional_properties["path"] for step in patch}


def test_a_schema_free_command_is_any_object(generated: Import, client: Any) -> None:
    models = generated("models")
    body = models.SendProcessLogBody.from_dict({"by": "ann"})
    generated("api.process_log.send_process_log").sync(
        "p-1", "check it", client=client, body=body, wait=models.Stage.APPENDED
    )
    page = generated("api.process_log.events_process_log").sync("p-1", client=client)
    assert [(each.type_, each.data.to_dict()) for each in page.events] == [
        ("check it", {"by": "ann"})
    ]


def test_each_sample_domain_has_a_module(generated: Import, client: Any) -> None:
    listed = generated("api.service.domains").sync(client=client)
    assert {each.name for each in listed.domains} == {*SAMPLES}
    for name in SAMPLES:
        page = generated(f"api.{name}.aggregates_{name}").sync(client=client)
        assert isinstance(page.aggregates, list)
