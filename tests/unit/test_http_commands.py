"""Commands over HTTP: what is taken, what is answered, and how it is refused."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from eventfleet.deciders.outcomes import (
    Accepted,
    Conflict,
    Failed,
    IdReused,
    Rejected,
    Repeated,
    Unavailable,
)
from eventfleet.domains.orders import Pay, orders
from eventfleet.domains.process_log import process_log
from eventfleet.model.command_rules import Rejection
from eventfleet.topics.event import event_id
from eventfleet.web import Limits
from tests.unit.http_fixture import PLACE, Web, problem, web

SYNCHRONOUS = replace(orders, commands=[Pay], decide=lambda state, command: Rejection("no"))


@pytest.fixture
async def shop() -> AsyncIterator[Web]:
    async with web() as found:
        yield found


# What is answered


async def test_an_accepted_command_is_202_and_its_event_is_stored(shop: Web) -> None:
    found = await shop.send()
    assert found.status_code == 202
    body = found.json()
    (event,) = await shop.memory.history("o-1")
    assert (event.type, event.data) == ("Placed", PLACE)
    assert body["outcome"] == "accepted"
    assert (body["event_id"], body["place"]) == (event.id, "orders.events/0")
    assert UUID(body["command_id"]).version == 7
    assert body.keys() == {"outcome", "command_id", "event_id", "place"}


@pytest.mark.parametrize("written", ["c-1", '"c-1"'])
async def test_the_idempotency_key_is_the_commands_id(shop: Web, written: str) -> None:
    body = (await shop.send(Idempotency_Key=written)).json()
    assert body["command_id"] == "c-1"
    assert body["event_id"] == event_id("orders", "o-1", "c-1")


async def test_only_an_id_that_the_client_gives_may_be_known_already(shop: Web) -> None:
    await shop.send()
    await shop.send(Idempotency_Key="c-1")
    assert [proposed.new for proposed in shop.storing.asked] == [True, False]


async def test_a_synchronous_domain_answers_200_with_the_version() -> None:
    async with web(SYNCHRONOUS) as shop:
        shop.storing.outcome = Accepted("e", "orders.events/3", version=7, published=False)
        found = await shop.send("o-1/commands/Pay", {"amount": 1}, Idempotency_Key="c")
        assert found.status_code == 200
        assert found.json() == {
            "outcome": "accepted",
            "command_id": "c",
            "event_id": "e",
            "place": "orders.events/3",
            "version": 7,
            "published": False,
        }


async def test_a_repeated_command_is_200_with_the_first_answer(shop: Web) -> None:
    shop.storing.outcome = Repeated("e", "orders.events/3")
    found = await shop.send(Idempotency_Key="c")
    assert found.status_code == 200
    assert found.json() == {
        "outcome": "repeated",
        "command_id": "c",
        "event_id": "e",
        "place": "orders.events/3",
    }


@pytest.mark.parametrize(
    ("outcome", "status", "kind"),
    [
        (Rejected("too late", "Cancelled"), 409, "rejected"),
        (Conflict("too late"), 409, "conflict"),
        (IdReused("too late"), 422, "id-reused"),
    ],
)
async def test_a_command_that_is_not_done_says_why(
    shop: Web, outcome: Any, status: int, kind: str
) -> None:
    shop.storing.outcome = outcome
    found = await shop.send(Idempotency_Key="c")
    assert problem(found) == (status, kind)
    assert found.json()["reason"] == "too late"


async def test_a_command_behind_a_newer_schema_waits_for_a_deployment(shop: Web) -> None:
    shop.storing.outcome = Failed("newer-schema", "the event has 2: deploy")
    found = await shop.send(Idempotency_Key="c")
    assert problem(found) == (503, "unavailable")
    assert "retry-after" in found.headers


@pytest.mark.parametrize("kind", ["decide-failed", "replay-failed"])
async def test_a_command_on_which_the_domains_code_raises_is_500_and_not_to_be_repeated(
    shop: Web, kind: Any
) -> None:
    shop.storing.outcome = Failed(kind, "Pay c can't be decided", "Traceback: a password")
    found = await shop.send(Idempotency_Key="c")
    assert problem(found) == (500, kind)
    assert "retry-after" not in found.headers
    assert "password" not in found.text


async def test_what_is_not_known_to_be_done_is_503_with_the_id_to_repeat(shop: Web) -> None:
    shop.storing.outcome = Unavailable("Kafka is away")
    found = await shop.send()
    assert problem(found) == (503, "unavailable")
    assert found.headers["retry-after"] == "1"
    assert found.json()["detail"] == "Kafka is away"
    assert UUID(found.json()["command_id"])


async def test_a_fault_of_the_service_is_500_and_tells_no_secrets(shop: Web) -> None:
    shop.storing.error = ZeroDivisionError("a password")
    found = await shop.send()
    assert problem(found) == (500, "broken")
    assert "password" not in found.text


async def test_a_command_without_an_answer_in_time_is_503() -> None:
    async with web(limits=Limits(timeout_seconds=0.05)) as shop:
        never = asyncio.Event()
        shop.storing.decide = lambda *_: never.wait()  # type: ignore[assignment, method-assign]
        assert problem(await shop.send()) == (503, "unavailable")


# Waiting for a stage


async def test_who_waits_is_told_how_far_the_event_has_come(shop: Web) -> None:
    found = await shop.send("o-1/commands/Place?wait=appended", Prefer="wait=0")
    assert found.status_code == 202
    assert found.json()["stage"] == "appended"
    assert found.headers["preference-applied"] == "wait=0"
    again = await shop.send("o-2/commands/Place?wait=accepted")
    assert again.json()["stage"] == "accepted"
    assert "preference-applied" not in again.headers


async def test_when_the_time_is_up_the_answer_is_the_outcome_and_the_last_stage(shop: Web) -> None:
    found = await shop.send("o-1/commands/Place?wait=relayed", Prefer="respond-async, wait=0")
    assert found.status_code == 202
    assert found.json()["outcome"] == "accepted"
    assert found.json()["stage"] == "appended"


async def test_waiting_is_bounded_but_may_take_longer_than_an_answer() -> None:
    limits = Limits(timeout_seconds=0.2, wait_seconds=1)
    async with web(limits=limits) as shop:
        found = await shop.send("o-1/commands/Place?wait=relayed", Prefer="wait=900")
        assert found.status_code == 202
        assert found.headers["preference-applied"] == "wait=1"


async def test_a_preference_that_is_none_counts_as_absent() -> None:
    async with web(limits=Limits(timeout_seconds=0.5)) as shop:
        found = await shop.send("o-1/commands/Place?wait=appended", Prefer="wait=soon, x")
        assert found.status_code == 202
        assert "preference-applied" not in found.headers


async def test_a_stage_that_is_none_is_named(shop: Web) -> None:
    found = await shop.send("o-1/commands/Place?wait=eaten")
    assert problem(found) == (422, "invalid")
    assert found.json()["field"] == "wait"


async def test_a_rejected_command_has_no_stage(shop: Web) -> None:
    shop.storing.outcome = Rejected("too late", "Cancelled")
    assert problem(await shop.send("o-1/commands/Place?wait=appended")) == (409, "rejected")


# What is taken


async def test_where_a_command_comes_from_is_kept_in_its_event(shop: Web) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await shop.send(X_Correlation_ID="k", X_Causation_ID="e", traceparent=trace)
    await shop.send("o-2/commands/Place", traceparent="00-nonsense")
    first, second = (asked.event for asked in shop.storing.asked)
    assert (first.correlation_id, first.causation_id, first.traceparent) == ("k", "e", trace)
    assert second.traceparent is None


@pytest.mark.parametrize(
    "id", ["a/b", "a b", "ä", "%2F", "a?b#c", "events", "commands", "..a", "👍" * 100, "a" * 255]
)
async def test_an_id_may_hold_any_characters(shop: Web, id: str) -> None:
    path = quote(id, safe="")
    assert (await shop.send(f"{path}/commands/Place")).status_code == 202
    assert (await shop.get_json(f"{path}/state"))["aggregate_id"] == id


async def test_an_integer_may_be_written_with_an_empty_fraction(shop: Web) -> None:
    """It is one for JSON Schema, and so for the description of the service."""
    await shop.send("o-1/commands/Pay", {"amount": 5.0})
    (event,) = await shop.memory.history("o-1")
    assert repr(event.data) == "{'amount': 5}"
    for wrong in (b"5.5", b"1152921504606846976.0", b"9007199254740993.0", b"-9007199254740993.0"):
        found = await shop.client.post(
            "/domains/orders/o-1/commands/Pay",
            content=b'{"amount": %s}' % wrong,
            headers={"content-type": "application/json"},
        )
        assert problem(found) == (422, "invalid"), wrong
        assert found.json()["field"] == "amount"


async def test_a_schema_free_domain_takes_any_command() -> None:
    async with web(process_log) as log:
        found = await log.send("case/commands/check%2Frepeat%20it", {"cost": 5.0})
        assert found.status_code == 202
        (event,) = await log.memory.history("case")
        assert (event.type, repr(event.data)) == ("check/repeat it", "{'cost': 5.0}")


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "field"),
    [
        ("o/commands/Bribe", {}, 404, "unknown-command", None),
        ("o/commands/Placed", PLACE, 404, "unknown-command", None),
        ("o/commands/", PLACE, 404, "no-such-path", None),
        ("o/commands/Pay", {"amount": 0}, 422, "invalid", "amount"),
        ("o/commands/Pay", {"amount": 2**63}, 422, "invalid", "amount"),
        ("o/commands/Pay", {"amount": "1"}, 422, "invalid", "amount"),
        ("o/commands/Pay", {}, 422, "invalid", "amount"),
        ("o/commands/Pay", {"amount": 1, "tip": 1}, 422, "invalid", "tip"),
        ("o/commands/Pay", [1], 422, "invalid", "body"),
        ("%00/commands/Pay", {"amount": 1}, 422, "invalid", "id"),
        ("%ff/commands/Pay", {"amount": 1}, 422, "invalid", "id"),
        ("a" * 256 + "/commands/Pay", {"amount": 1}, 422, "invalid", "id"),
    ],
)
async def test_bad_input_names_its_field(
    shop: Web, path: str, body: Any, status: int, kind: str, field: str | None
) -> None:
    found = await shop.send(path, body)
    assert problem(found) == (status, kind)
    assert found.json().get("field") == field
    assert (field is None) or found.json()["reason"]
    assert shop.storing.asked == []


@pytest.mark.parametrize(
    ("body", "field"),
    [(b"", "amount"), (b"{", "body"), (b'{"amount": 1} x', "body"), (b'{"a\\u0000": 1}', "body")],
)
async def test_a_body_that_is_no_json_is_422(shop: Web, body: bytes, field: str) -> None:
    found = await shop.client.post(
        "/domains/orders/o/commands/Pay",
        content=body,
        headers={"content-type": "application/json; charset=utf-8"},
    )
    assert problem(found) == (422, "invalid")
    assert found.json()["field"] == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"amount": 1, "amount": 2}', "amount"),
        (b'{"amount": 1, "a\\u006dount": 2}', "amount"),
        (b'{"amount": [{"a:": 1, "x": ":", "x": 2}]}', "x"),
        (b'{"amount": 1, "": 1, "": 2}', "body"),
    ],
)
async def test_a_key_that_is_given_twice_is_named(shop: Web, body: bytes, field: str) -> None:
    found = await shop.client.post(
        "/domains/orders/o/commands/Pay",
        content=body,
        headers={"content-type": "application/json"},
    )
    assert problem(found) == (422, "invalid")
    assert found.json() | {"field": field, "reason": "is given more than once"} == found.json()


async def test_colons_in_texts_are_no_keys(shop: Web) -> None:
    body = PLACE | {"customer": 'a: b, "c": \\ {d:'}
    assert (await shop.send("o-1/commands/Place", body)).status_code == 202


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_only_what_says_it_is_json_is_taken(shop: Web, kind: str) -> None:
    """A web page of another origin can send anything else without being asked."""
    found = await shop.client.post(
        "/domains/orders/o/commands/Cancel", content=b"{}", headers={"content-type": kind}
    )
    assert problem(found) == (415, "not-json")


async def test_a_command_without_fields_needs_no_body(shop: Web) -> None:
    await shop.send("o-1/commands/Place")
    path = "/domains/orders/o-1/commands/Cancel"
    assert (await shop.client.post(path)).status_code == 202
    by_page = await shop.client.post(path, headers={"origin": "http://elsewhere.example"})
    assert problem(by_page) == (415, "not-json")
    lacking = await shop.client.post("/domains/orders/o-2/commands/Place")
    assert (problem(lacking), lacking.json()["field"]) == ((422, "invalid"), "customer")


@pytest.mark.parametrize("key", ["", '""', "ä".encode(), "k" * 256, "a\tb"])
async def test_an_idempotency_key_that_is_none_is_named(shop: Web, key: Any) -> None:
    found = await shop.client.post(
        "/domains/orders/o/commands/Cancel", json={}, headers={"idempotency-key": key}
    )
    assert problem(found) == (422, "invalid")
    assert found.json()["field"] == "Idempotency-Key"


@pytest.mark.parametrize("told", [True, False])
async def test_a_body_beyond_the_limit_is_413(told: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100

    async with web(limits=Limits(body_bytes=1_000)) as shop:
        found = await shop.client.post(
            "/domains/orders/o/commands/Cancel",
            content=b" " * 2_000 if told else pieces(),
            headers={"content-type": "application/json"},
        )
        assert problem(found) == (413, "too-large")


async def test_beyond_so_many_at_once_it_is_429_but_the_process_is_alive() -> None:
    async with web(limits=Limits(concurrent_requests=2)) as shop:
        release, arrived = asyncio.Event(), asyncio.Semaphore(0)
        decide = shop.storing.decide

        async def held(*args: Any) -> None:
            arrived.release()
            await release.wait()
            await decide(*args)

        shop.storing.decide = held  # type: ignore[method-assign]
        calls = []
        for number in range(2):
            calls.append(asyncio.create_task(shop.send(f"o-{number}/commands/Place")))
            await arrived.acquire()
        found = await shop.send()
        assert problem(found) == (429, "busy")
        assert found.headers["retry-after"] == "1"
        assert (await shop.client.get("/live")).status_code == 200
        release.set()
        assert [call.status_code for call in await asyncio.gather(*calls)] == [202, 202]
        assert (await shop.send("o-3/commands/Place")).status_code == 202


async def test_a_method_that_a_path_does_not_take_is_405(shop: Web) -> None:
    found = await shop.client.get("/domains/orders/o/commands/Place")
    assert problem(found) == (405, "method-not-allowed")
    assert found.headers["allow"] == "POST"
    assert (await shop.client.head("/live")).status_code == 200


async def test_requests_are_counted_by_route_method_and_status(shop: Web) -> None:
    await shop.send()
    await shop.send("o-2/commands/Place", {})
    await shop.client.get("/nowhere")
    page = (await shop.client.get("/metrics")).text
    route = 'route="/domains/{domain}/{id}/commands/{command}"'
    assert f'eventfleet_http_requests_total{{method="POST",{route},status="202"}} 1.0' in page
    assert f'eventfleet_http_requests_total{{method="POST",{route},status="422"}} 1.0' in page
    assert 'eventfleet_http_requests_total{method="GET",route="none",status="404"} 1.0' in page
    assert f'eventfleet_http_request_seconds_count{{method="POST",{route}}} 2.0' in page
