"""The OpenAPI document says what the service takes and answers."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import jsonschema_rs
import pytest
from msgspec import defstruct

from eventfleet.domains.bank import bank
from eventfleet.domains.cart import cart
from eventfleet.domains.game import game
from eventfleet.domains.orders import Cancelled, Order, Pay, Place, Placed, orders
from eventfleet.domains.process_log import process_log, with_rules
from eventfleet.domains.trading import trading
from eventfleet.model.command_rules import Emits, Rejection
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Event, State
from eventfleet.web import DomainServices, TokenAccess
from eventfleet.web.application import OPERATIONS
from eventfleet.web.openapi import describe
from examples.chat import rooms
from examples.chat.domain import chat
from tests.unit.described_http import JSON, document, schema
from tests.unit.eventually import until
from tests.unit.http_fixture import PLACE, SECRET, web


def document_of(domains: Sequence[Domain[Any]]) -> Any:
    services = {each.name: DomainServices(each, None, None, None, None) for each in domains}  # type: ignore[arg-type]
    return describe(OPERATIONS, services, False, "")


def schemas_of(document: Any) -> Any:
    return document["components"]["schemas"]


def refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from refs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from refs(inner)


SEND = "/domains/orders/{id}/commands/Place", "post", "requestBody", "content"


async def test_all_that_is_referred_to_is_there() -> None:
    told = await document()
    assert told["openapi"] == "3.1.0"
    names = {f"#/components/schemas/{name}" for name in told["components"]["schemas"]}
    assert {*refs(told)} <= names


def test_all_that_an_operation_of_a_teams_own_refers_to_is_there() -> None:
    services = {"chat": DomainServices(chat, None, None, None, None)}  # type: ignore[arg-type]
    told = describe([*OPERATIONS, rooms.MESSAGES, rooms.HISTORY], services, False, "")
    names = {f"#/components/schemas/{name}" for name in told["components"]["schemas"]}
    assert {*refs(told)} <= names
    parameters = told["paths"]["/rooms/{id}/messages"]["get"]["parameters"]
    [source] = [each["schema"] for each in parameters if each["name"] == "source"]
    assert (source["enum"], source["default"]) == (["replay", "view"], "replay")


async def test_each_operation_has_a_name_of_its_own() -> None:
    told = await document()
    names = [each["operationId"] for path in told["paths"].values() for each in path.values()]
    assert len(names) == len({*names})
    assert "send-orders-Place" in names


async def test_a_commands_body_has_the_type_of_its_declaration() -> None:
    told = await document()
    body = jsonschema_rs.validator_for(schema(told, *SEND, *JSON))
    assert body.is_valid(PLACE)
    for wrong in ({"total": 0}, {"currency": "euro"}, {"tip": 1}, {"total": 2**70}):
        assert not body.is_valid(PLACE | wrong)


class Refund(Command):
    """Give the money
    back.

    More of it.
    """


async def test_a_command_is_summed_up_by_its_docstring() -> None:
    told = await document(replace(orders, commands=[*orders.commands, Emits(Refund, Cancelled)]))
    paths = "/domains/orders/{id}/commands/Refund", "/domains/orders/{id}/commands/Pay"
    refund, pay = (told["paths"][path]["post"] for path in paths)
    assert refund["summary"] == "Give the money back."
    assert pay["summary"] == "Sends one command to an aggregate."
    assert (refund["requestBody"]["required"], pay["requestBody"]["required"]) == (False, True)


@pytest.mark.parametrize(
    "path", ["events", "snapshot", "state", "missing?after=0", "diff?first=0&second=2"]
)
async def test_what_is_answered_is_as_described(path: str) -> None:
    async with web() as shop:
        await shop.send()
        await shop.send("o-1/commands/Pay", {"amount": 1})
        await shop.get_json("o-1/state")
        await until(lambda: shop.saver.saved)
        found, told = await shop.get_json(f"o-1/{path}"), await document()
        name = path.partition("?")[0]
        where = f"/domains/orders/{{id}}/{name}", "get", "responses", "200", "content"
        answer = jsonschema_rs.validator_for(schema(told, *where, *JSON))
        answer.validate(found)
        if name == "events":
            found["events"][0]["data"]["total"] = 0
            assert not answer.is_valid(found)
        elif "state" in found:
            found["state"]["total"] = "much"
            assert not answer.is_valid(found)


async def test_a_problem_is_as_described() -> None:
    async with web() as shop:
        found, told = await shop.send("o/commands/Place", {}), await document()
        where = SEND[0], "post", "responses", "422", "content", found.headers["content-type"]
        jsonschema_rs.validator_for(schema(told, *where, "schema")).validate(found.json())
        busy = told["paths"][SEND[0]]["post"]["responses"]["429"]
    assert busy["headers"].keys() == {"Retry-After"}
    assert "invalid" in told["paths"][SEND[0]]["post"]["responses"]["422"]["description"]


async def test_a_synchronous_command_is_answered_with_200_and_an_asynchronous_with_202() -> None:
    synchronous = replace(orders, commands=[Pay], decide=lambda state, command: Rejection("no"))
    for domain, statuses in ((orders, {"200", "202"}), (synchronous, {"200"})):
        told = await document(domain)
        answers = told["paths"]["/domains/orders/{id}/commands/Pay"]["post"]["responses"]
        assert {status for status in answers if status.startswith("2")} == statuses


async def test_a_schema_free_domain_takes_any_object() -> None:
    told = await document(process_log)
    assert "/domains/process_log/{id}/commands/{command}" in told["paths"]
    ruled = await document(with_rules(process_log, {"check it": [""]}))
    assert "/domains/process_log/{id}/commands/check%20it" in ruled["paths"]
    assert "/domains/process_log/{id}/commands/{command}" not in ruled["paths"]


async def test_a_type_without_a_schema_may_be_anything() -> None:
    class Odd:
        pass

    class Holder(State):
        odd: Odd = Odd()
        price: Decimal = Decimal(0)

    told = await document(Domain("odd", state=Holder, evolve=lambda s, e: s, events=[Placed]))
    schema = told["components"]["schemas"]["OddHolder"]
    assert schema == {"type": "object", "title": "OddHolder"}


async def test_types_of_one_name_do_not_hide_each_other() -> None:
    class EventPage(State):
        pages: int = 0

    found = schemas_of(await document(replace(orders, state=EventPage)))
    assert found["OrdersEventPage"]["properties"].keys() == {"pages"}
    assert "events" in found["OrdersEventPage2"]["properties"]
    assert refs(found["OrdersAggregateState"])


def test_names_and_titles_are_unique_across_domains_without_case_and_dots() -> None:
    """`order` with `LineAdded` and `order_line` with `Added` would both be `OrderLineAdded`."""
    line_added, added = (defstruct(name, [], bases=(Event,)) for name in ("LineAdded", "Added"))
    evolve = orders.evolve
    domains = [
        *(bank, cart, game, orders, trading, process_log),
        Domain("order", state=Order, evolve=evolve, events=[line_added]),
        Domain("order-line", state=Order, evolve=evolve, events=[added]),
    ]
    told = document_of(domains)
    found = schemas_of(told)
    assert {"BankDeposit", "OrdersOrder", "OrderOrder"} <= found.keys()
    assert {"OrderLineAdded", "OrderLineAdded2"} <= found.keys()
    assert [schema["title"] for schema in found.values()] == [*found]
    assert len({re.sub("[^a-z0-9]", "", name.lower()) for name in found}) == len(found)
    (page,) = refs(found["OrderLineEventPage"])
    data = found[page.rpartition("/")[2]]["oneOf"]
    assert data == [{"$ref": "#/components/schemas/OrderLineAdded2Record"}]


async def test_with_tokens_the_document_says_so() -> None:
    open_to_all, told = await document(), await document(access=TokenAccess(SECRET))
    assert "securitySchemes" in told["components"]
    operation = told["paths"][SEND[0]]["post"]
    assert operation["security"] == [{"bearer": []}]
    assert told["paths"]["/ready"]["get"]["security"] == [{}, {"bearer": []}]
    assert {"401", "403"} <= operation["responses"].keys()
    assert "securitySchemes" not in open_to_all["components"]
    assert "security" not in open_to_all["paths"][SEND[0]]["post"]


async def test_the_former_name_of_diff_is_deprecated() -> None:
    paths = (await document())["paths"]
    assert paths["/domains/orders/{id}/difference"]["get"]["deprecated"]
    assert "deprecated" not in paths["/domains/orders/{id}/diff"]["get"]


async def test_parameters_are_described() -> None:
    told = await document()
    events = told["paths"]["/domains/orders/{id}/events"]["get"]["parameters"]
    named = {each["name"]: each for each in events}
    assert named.keys() == {"id", "after", "limit", "types", "cursor"}
    assert named["limit"]["schema"]["maximum"] == 1_000
    assert not named["after"]["required"]
    feed = told["paths"]["/domains/orders/feed"]["get"]["parameters"]
    assert {each["name"] for each in feed} == {"from", "limit", "types", "aggregates", "cursor"}
    missing = told["paths"]["/domains/orders/{id}/missing"]["get"]["parameters"]
    assert [each["required"] for each in missing if each["name"] == "after"] == [True]
    headers = {each["name"] for each in told["paths"][SEND[0]]["post"]["parameters"]}
    assert "Idempotency-Key" in headers
    assert Place.__name__ in told["paths"][SEND[0]]["post"]["operationId"]
