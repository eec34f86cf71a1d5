"""A fleet's topic prefix: what it names, and what no prefix may be."""

import os
from dataclasses import replace

import pytest

from eventfleet.domains.orders import Delivered, Paid, orders
from eventfleet.model.declaration import Route
from eventfleet.roles.relay import UnconditionalRoutes
from eventfleet.runtime import connections
from eventfleet.runtime.settings import PREFIX, Settings, SettingsError, load_settings
from eventfleet.snapshot_rules import every
from eventfleet.topics.names import MAX_TOPIC_PREFIX_CHARS, Topics
from eventfleet.workers.agents import ROLES, agent_class

STAGING = "staging."
LONGEST_NAME = "a" * 100
MODULE = "eventfleet.domains.orders"


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


# The setting


def test_the_settings_prefix_domains_and_their_topics() -> None:
    settings = Settings(topic_prefix=STAGING, domains=MODULE)
    [domain] = connections.select_domains(settings).values()
    assert domain.topics == Topics.of("orders", STAGING)
    assert connections.select_domains(settings, ["orders"]) == {"orders": domain}
    names = [spec.name for spec in connections.topics_of(settings, domain)]
    assert sorted(names) == sorted(domain.topics)
    routes = [spec.name for spec in connections.routes_of(settings, domain)]
    assert routes == ["staging.finance.ledger", "staging.shipping.requests"]


@pytest.mark.parametrize(
    ("given", "groups"),
    [
        ({}, "eventfleet"),
        ({"topic_prefix": STAGING}, "staging.eventfleet"),
        ({"topic_prefix": STAGING, "group_prefix": "ours"}, "ours"),
        ({"topic_prefix": STAGING, "group_prefix": "eventfleet"}, "eventfleet"),
    ],
)
def test_groups_begin_with_the_prefix_unless_theirs_is_set(
    given: dict[str, str], groups: str
) -> None:
    settings = Settings(**given)  # type: ignore[arg-type]
    assert settings.group_prefix == groups
    assert settings.model_copy(update={"domains": MODULE}).group_prefix == groups


def test_with_the_longest_prefix_the_longest_topic_is_as_long_as_kafka_allows() -> None:
    longest = Settings(topic_prefix="." * MAX_TOPIC_PREFIX_CHARS).topic_prefix
    assert max(map(len, Topics.of(LONGEST_NAME, longest))) == 249


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("staging", "does not end with a dot, '_' or '-'"),
        ("our staging.", "has other characters than Kafka's topics"),
        ("größe.", "has other characters than Kafka's topics"),
        ("staging.\n", "has other characters than Kafka's topics"),
        ("a/.", "has other characters than Kafka's topics"),
        ("." * (MAX_TOPIC_PREFIX_CHARS + 1), "has 137 characters; 136 at most keep every topic"),
    ],
)
def test_a_wrong_prefix_is_refused_with_the_reason(
    prefix: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EVENTFLEET_TOPIC_PREFIX", prefix)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"EVENTFLEET_TOPIC_PREFIX={prefix!r}: {reason}")


def test_a_prefix_that_makes_a_route_s_topic_too_long_is_refused() -> None:
    domain = replace(orders, routes=[Route("x" * 245, types=[Delivered])])
    assert connections.prefixed(Settings(topic_prefix="abc."), domain).targets == [
        f"abc.{'x' * 245}"
    ]
    with pytest.raises(SettingsError) as caught:
        connections.prefixed(Settings(topic_prefix="abcd."), domain)
    assert str(caught.value) == (
        f"EVENTFLEET_TOPIC_PREFIX: domain orders: a route leads to 'abcd.{'x' * 245}', which is "
        "not a valid topic name: 1 to 249 letters, digits, dots, '_' and '-'"
    )
