"""A topic prefix: what it stands before."""

from dataclasses import replace

import pytest

from eventfleet.domains.orders import Paid, orders
from eventfleet.model.declaration import Route
from eventfleet.roles.relay import UnconditionalRoutes
from eventfleet.snapshot_rules import every
from eventfleet.topics.names import Topics
from eventfleet.workers.agents import ROLES, agent_class

STAGING = "staging."


def test_topics_begin_with_the_prefix() -> None:
    plain, prefixed = Topics.of("shop", ""), Topics.of("shop", STAGING)
    assert [*prefixed] == [f"staging.{name}" for name in plain]
    assert (plain.domain, prefixed.domain) == ("shop", "shop")


def test_a_domain_s_topics_and_those_of_its_routes_begin_with_the_prefix() -> None:
    domain = replace(orders, routes=[Route("bank.commands", types=[Paid]), Route("audit")])
    prefixed = domain.with_topic_prefix(STAGING)
    assert prefixed.topics == Topics.of("orders", STAGING)
    assert prefixed.targets == ["staging.audit", Topics.of("bank", STAGING).commands]
    assert [route.to for route in domain.routes] == ["bank.commands", "audit"]
    assert [route.types for route in prefixed.routes] == [route.types for route in domain.routes]


def test_without_a_prefix_a_domain_is_as_declared() -> None:
    assert orders.with_topic_prefix("") is orders
    assert orders.topics == Topics.of("orders", "")


def test_a_prefix_takes_the_place_of_another_and_stays_in_a_copy() -> None:
    prefixed = orders.with_topic_prefix(STAGING)
    assert prefixed.with_topic_prefix(STAGING) is prefixed
    assert prefixed.with_topic_prefix("") == orders
    assert replace(prefixed, snapshot=every(3)).topics == prefixed.topics


def test_a_prefix_makes_no_route_of_the_domain_s_own_topics() -> None:
    domain = replace(orders, routes=[Route("events")]).with_topic_prefix("orders.")
    assert domain.targets == ["orders.events"]
    assert domain.topics.events == "orders.orders.events"


def test_relay_writes_to_prefixed_topics() -> None:
    route = UnconditionalRoutes(orders.with_topic_prefix(STAGING)).of("Paid")
    assert route
    assert [*route.topics] == ["staging.finance.ledger"]


@pytest.mark.parametrize("role", ROLES)
def test_each_role_uses_prefixed_topics_only(role: str) -> None:
    agent = agent_class(role)
    prefixed = orders.with_topic_prefix(STAGING)
    for of in (agent.source_of, agent.targets_of):
        plain, found = of(orders), of(prefixed)
        if isinstance(plain, str):
            assert found == f"staging.{plain}"
        else:
            assert [*found] == [f"staging.{name}" for name in plain]
