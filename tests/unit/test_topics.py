"""Names and settings of topics, groups, and dead letters."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfleet.topics.dead_letters import (
    KIND,
    MAX_REASON_CHARS,
    REASON,
    ROLE,
    SOURCE,
    SUPERSEDED,
    UNREADABLE,
    make_dead_letter,
)
from eventfleet.topics.event import MAX_EVENT_BYTES, DomainName
from eventfleet.topics.names import TOPIC_NAME, Topics, consumer_group
from eventfleet.topics.record import LogRecord
from eventfleet.topics.topic_specs import (
    EVENT_TOPIC_BYTES,
    WIDE_TOPIC_BYTES,
    TopicSpec,
    declare_topics,
)

KINDS = ["commands", "replies", "events", "stored", "snapshots", "dead-letters", "parked"]


def declared(**settings: int) -> dict[str, TopicSpec]:
    """The topics of a domain `shop` by kind."""
    specs = declare_topics(
        Topics.of("shop", ""), **{"partitions": 4, "replication": 3, "retention_ms": -1} | settings
    )
    return {spec.name.removeprefix("shop."): spec for spec in specs}


# Names


def test_the_topics_of_a_domain() -> None:
    assert list(Topics.of("shop", "")) == [f"shop.{kind}" for kind in KINDS]


def test_a_group_is_named_by_prefix_domain_and_role() -> None:
    assert consumer_group("fleet", "shop", "append") == "fleet.shop.append"


@given(st.from_regex(r"[a-z][a-z0-9_-]{0,99}", fullmatch=True))
def test_every_domain_name_gives_names_that_kafka_takes(domain: str) -> None:
    assert msgspec.convert(domain, DomainName) == domain
    assert all(re.fullmatch(TOPIC_NAME, topic) for topic in Topics.of(domain, ""))


@pytest.mark.parametrize("topic", ["", ".", "..", "a b", "a/b", "ä", "a\n", "x" * 250])
def test_what_kafka_refuses_is_no_name_of_a_topic(topic: str) -> None:
    assert not re.fullmatch(TOPIC_NAME, topic)


# Declaration


def test_every_topic_of_a_domain_is_declared_with_the_same_number_of_partitions() -> None:
    topics = declared(partitions=7)
    assert sorted(topics) == sorted(KINDS)
    assert {spec.partitions for spec in topics.values()} == {7}


@pytest.mark.parametrize(("replication", "in_sync"), [(1, "1"), (2, "1"), (3, "2"), (5, "2")])
def test_with_three_replicas_two_must_have_a_record(replication: int, in_sync: str) -> None:
    for spec in declared(replication=replication).values():
        assert spec.replication == replication
        assert spec.config["min.insync.replicas"] == in_sync


def test_no_topic_may_elect_a_leader_that_lags() -> None:
    for spec in declared().values():
        assert spec.config["unclean.leader.election.enable"] == "false"


def test_the_newest_by_key_are_compacted_and_all_else_is_kept_as_long_as_declared() -> None:
    topics = declared(retention_ms=3_600_000)
    for compacted in (topics.pop("snapshots"), topics.pop("parked")):
        assert compacted.config["cleanup.policy"] == "compact"
        assert "retention.ms" not in compacted.config
    for spec in topics.values():
        assert spec.config["cleanup.policy"] == "delete"
        assert spec.config["retention.ms"] == "3600000"


def test_what_follows_of_the_greatest_event_has_room() -> None:
    limits = {kind: int(s.config.get("max.message.bytes", 0)) for kind, s in declared().items()}
    assert limits["events"] == EVENT_TOPIC_BYTES > MAX_EVENT_BYTES
    assert limits["stored"] == limits["snapshots"] == limits["dead-letters"] == WIDE_TOPIC_BYTES
    assert WIDE_TOPIC_BYTES >= EVENT_TOPIC_BYTES + 4 * MAX_REASON_CHARS


# Dead letters

RECORD = LogRecord(
    "shop.events", 3, 41, b"order-1", b"\xff{", (("a", b"1"), ("a", b"2"), (REASON, b"x")), 99
)


def test_a_dead_letter_keeps_the_record_and_says_where_it_was_and_why() -> None:
    letter = make_dead_letter(
        "shop.dead-letters", "append", RECORD, UNREADABLE, "value: is not JSON: äöü"
    )
    assert letter.topic == "shop.dead-letters"
    assert letter.partition == RECORD.partition
    assert (letter.key, letter.value) == (RECORD.key, RECORD.value)
    assert letter.headers == (
        *RECORD.headers,
        (KIND, b"unreadable"),
        (REASON, "value: is not JSON: äöü".encode()),
        (ROLE, b"append"),
        (SOURCE, b"shop.events/3/41"),
    )


def test_an_absent_key_or_value_stays_absent() -> None:
    letter = make_dead_letter(
        "shop.dead-letters", "relay", LogRecord("t", 0, 0, None, None), SUPERSEDED, "prev"
    )
    assert (letter.key, letter.value) == (None, None)
    assert dict(letter.headers)[KIND] == b"superseded"


@given(st.text(min_size=1, max_size=5).map(lambda text: text * MAX_REASON_CHARS))
def test_a_reason_of_any_length_and_text_fits(reason: str) -> None:
    written = dict(
        make_dead_letter("shop.dead-letters", "append", RECORD, UNREADABLE, reason).headers[3:]
    )[REASON]
    assert len(written) <= 4 * MAX_REASON_CHARS
    assert len(written.decode()) == MAX_REASON_CHARS
