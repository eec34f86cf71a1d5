"""Versions over HTTP: the ETag of what is read, and If-Match and If-None-Match of a command."""

from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import httpx
import jsonschema_rs
import pytest

from eventfleet.deciders.outcomes import Repeated, VersionConflict
from eventfleet.domains.bank import bank
from eventfleet.domains.orders import orders
from tests.unit.described_http import JSON, document, schema
from tests.unit.http_fixture import PLACE, Web, problem, web

OPEN = {"owner": "ann", "currency": "EUR"}
DEPOSIT = "a-1/commands/Deposit"
serial = count()


@pytest.fixture
async def counter() -> AsyncIterator[Web]:
    """A bank, whose decider stores each event and knows no version."""
    async with web(bank) as found:
        yield found


@pytest.fixture
async def shop() -> AsyncIterator[Web]:
    async with web(orders) as found:
        yield found


async def deposit(counter: Web, *headers: tuple[str, str], amount: int = 5) -> httpx.Response:
    counter.storing.outcome = Repeated("e", "bank.events/0", 1)
    url = f"/domains/bank/{DEPOSIT}"
    return await counter.client.post(url, json={"amount": amount}, headers=list(headers))


async def store(counter: Web, kind: str, data: dict[str, Any]) -> None:
    await counter.memory.store(f"e-{next(serial)}", "a-1", type=kind, data=data)


def asked(counter: Web) -> list[Any]:
    return [each.expected_version for each in counter.storing.asked]


# What a command demands


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (("If-Match", '"7"'), 7),
        (("if-match", '"0"'), 0),
        (("If-Match", f'"{2**63 - 1}"'), 2**63 - 1),
        (("If-Match", "*"), "*"),
        (("If-None-Match", "*"), 0),
        (("X-Other", "1"), None),
    ],
)
async def test_a_command_names_its_version(
    counter: Web, header: tuple[str, str], expected: Any
) -> None:
    found = await deposit(counter, header)
    assert found.status_code == 200, found.text
    assert asked(counter) == [expected]


@pytest.mark.parametrize(
    ("headers", "field", "reason"),
    [
        ([("If-Match", 'W/"7"')], "If-Match", "is a weak tag; a strong one is needed"),
        ([("If-Match", '"7", "8"')], "If-Match", "is a list; an aggregate is at one version"),
        ([("If-Match", '"7"'), ("If-Match", '"8"')], "If-Match", "is given more than once"),
        ([("If-Match", "7")], "If-Match", "is neither * nor a version in double quotes"),
        ([("If-Match", '"07"')], "If-Match", "is neither * nor a version in double quotes"),
        ([("If-Match", '"-1"')], "If-Match", "is neither * nor a version in double quotes"),
        ([("If-Match", '"seven"')], "If-Match", "is neither * nor a version in double quotes"),
        ([("If-Match", '"7-gzip"')], "If-Match", "is neither * nor a version in double quotes"),
        ([("If-Match", "")], "If-Match", "is neither * nor a version in double quotes"),
        ([("If-Match", f'"{2**63}"')], "If-Match", "is beyond a 64-bit integer"),
        ([("If-None-Match", '"7"')], "If-None-Match", "can be * only"),
        ([("If-None-Match", "*, *")], "If-None-Match", "can be * only"),
        (
            [("If-None-Match", "*"), ("If-None-Match", "*")],
            "If-None-Match",
            "is given more than once",
        ),
        (
            [("If-Match", "*"), ("If-None-Match", "*")],
            "If-None-Match",
            "cannot be combined with If-Match",
        ),
    ],
)
async def test_a_header_that_is_no_version_is_refused_by_name(
    counter: Web, headers: list[tuple[str, str]], field: str, reason: str
) -> None:
    found = await deposit(counter, *headers)
    assert problem(found) == (422, "invalid")
    assert found.json()["field"] == field
    assert reason in found.json()["reason"]
    assert counter.storing.asked == []


@pytest.mark.parametrize("header", [("If-Match", '"1"'), ("If-Match", "*"), ("If-None-Match", "*")])
async def test_an_asynchronous_domain_refuses_it_before_anything_is_done(
    shop: Web, header: tuple[str, str]
) -> None:
    url = "/domains/orders/o-1/commands/Place"
    found = await shop.client.post(url, json=PLACE, headers=[header])
    assert problem(found) == (422, "invalid")
    assert found.json()["field"] == header[0]
    assert "orders is asynchronous" in found.json()["reason"]
    assert shop.storing.asked == []
    assert await shop.memory.history("o-1") == []


# What is answered


@pytest.mark.parametrize("version", [0, 9])
async def test_another_version_is_412_with_the_present_one(counter: Web, version: int) -> None:
    counter.storing.outcome = VersionConflict("as it says", version)
    found = await counter.send(DEPOSIT, {"amount": 5}, If_Match='"3"', Idempotency_Key="c")
    assert problem(found) == (412, "version-conflict")
    assert found.headers["etag"] == f'"{version}"'
    told = found.json()
    assert (told["version"], told["reason"], told["command_id"]) == (version, "as it says", "c")
    described = await document(bank)
    where = "/domains/bank/{id}/commands/Deposit", "post", "responses", "412", "content"
    answer = schema(described, *where, "application/problem+json", "schema")
    jsonschema_rs.validator_for(answer).validate(told)


async def test_one_that_waits_for_a_stage_is_answered_alike(counter: Web) -> None:
    counter.storing.outcome = VersionConflict("as it says", 9)
    path = f"{DEPOSIT}?wait=relayed"
    assert problem(await counter.send(path, {"amount": 5}, If_Match='"3"')) == (
        412,
        "version-conflict",
    )


# What is read


async def test_what_is_read_has_its_version_as_etag(counter: Web) -> None:
    await store(counter, "Opened", OPEN)
    for amount in (5, 6):
        await store(counter, "Deposited", {"amount": amount})
    tags = {
        "state": '"3"',
        "state?version=2": '"2"',
        "missing?after=0": '"3"',
        "missing?after=0&limit=1": '"3"',
        "missing?after=3": '"3"',
        "events": '"3"',
        "events?after=1&limit=2": '"3"',
        "events?limit=2": None,
        "events?after=3": None,
        "events?types=Opened": None,
        "diff?first=0&second=1": None,
    }
    found = {path: (await counter.get(f"a-1/{path}")).headers.get("etag") for path in tags}
    assert found == tags
    stream = await counter.get("a-1/events", accept="application/x-ndjson")
    assert (stream.status_code, "etag" in stream.headers) == (200, False)


async def test_from_reading_to_writing_and_a_cache_in_between(counter: Web) -> None:
    """The tag goes back as it came; a GET is answered whole whatever a cache has."""
    await store(counter, "Opened", OPEN)
    read = await counter.get("a-1/state")
    again = await counter.get("a-1/state", **{"if-none-match": read.headers["etag"]})
    assert again.json() == read.json()
    await deposit(counter, ("If-Match", read.headers["etag"]))
    assert asked(counter) == [1]


# The description


async def test_headers_etags_and_412_are_described_for_synchronous_domains() -> None:
    told = await document(bank)
    operation = told["paths"]["/domains/bank/{id}/commands/Deposit"]["post"]
    headers = {each["name"]: each["schema"] for each in operation["parameters"]}
    for valid in ('"0"', '"7"', "*"):
        assert jsonschema_rs.is_valid(headers["If-Match"], valid)
    for wrong in ("7", 'W/"7"', '"7", "8"', '"07"', ""):
        assert not jsonschema_rs.is_valid(headers["If-Match"], wrong)
    assert jsonschema_rs.is_valid(headers["If-None-Match"], "*")
    assert not jsonschema_rs.is_valid(headers["If-None-Match"], '"7"')
    conflict = operation["responses"]["412"]
    assert "version-conflict" in conflict["description"]
    assert conflict["headers"]["ETag"]["required"]


async def test_an_asynchronous_domain_has_none_of_it_but_the_etag_of_its_states() -> None:
    paths = (await document(orders))["paths"]
    operation = paths["/domains/orders/{id}/commands/Place"]["post"]
    assert not {"If-Match", "If-None-Match"} & {each["name"] for each in operation["parameters"]}
    assert "412" not in operation["responses"]
    required = {"state": True, "missing": True, "events": False}
    for name, always in required.items():
        answer = paths[f"/domains/orders/{{id}}/{name}"]["get"]["responses"]["200"]
        assert answer["headers"]["ETag"]["required"] is always
        assert JSON[0] in answer["content"]
    snapshot = paths["/domains/orders/{id}/snapshot"]["get"]["responses"]["200"]
    assert "headers" not in snapshot
