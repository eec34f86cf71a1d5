"""The scripts of rights: with a topic prefix they give the same rights, on names behind it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.fleet import ROOT

SCRIPTS = ROOT / "deploy" / "security"
STAGING = "staging."
BEFORE_NAMES = {"--topic", "--group", "--transactional-id"}


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    for role in ("append", "snapshot", "relay", "project", "command", "serve", "audit"):
        (tmp_path / role).write_text(f"{role}'s\n")
    return tmp_path


def run(script: str, *arguments: str, **variables: str) -> str:
    command, environment = [str(SCRIPTS / script), *arguments], os.environ | variables
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def kafka_rights(**variables: str) -> list[list[str]]:
    """The words of each call of Kafka's own program."""
    known = {"KAFKA_ACLS": "echo", "BROKERS": "b:1", "ADMIN_CONFIG": "none"}
    lines = run("kafka-acls.sh", "orders", "finance.ledger", "audit", **known | variables)
    return [line.split() for line in lines.splitlines()]


def behind_prefix(words: list[str]) -> list[str]:
    """These words, with the prefix before each name, and in transactional ids."""
    expected = [
        f"{STAGING}{word}" if before in BEFORE_NAMES else word
        for before, word in zip(["", *words], words, strict=False)
    ]
    line = " ".join(expected).replace("User:", f"User:{STAGING}")
    return line.replace("-orders.", f"-{STAGING}orders.").split()


def test_rights_on_kafka_are_on_names_behind_the_prefix() -> None:
    plain = kafka_rights()
    assert kafka_rights(TOPIC_PREFIX="") == plain
    assert kafka_rights(TOPIC_PREFIX=STAGING) == [behind_prefix(words) for words in plain]


def test_groups_and_users_may_have_names_of_their_own() -> None:
    rights = kafka_rights(TOPIC_PREFIX=STAGING, GROUP_PREFIX="ours", PRINCIPALS="User:o-")
    words = {word for words in rights for word in words}
    own = {"ours.orders.append", "ours.orders.append-staging.orders.events-", "User:o-append"}
    assert own < words
    assert not {word for word in words if word.startswith((f"User:{STAGING}", f"{STAGING}event"))}


def test_rights_on_redis_are_on_names_behind_the_prefix(passwords: Path) -> None:
    plain = run("redis-users.sh", "orders", str(passwords))
    prefixed = run("redis-users.sh", "orders", str(passwords), TOPIC_PREFIX=STAGING)
    names = [word for word in plain.split() if word[0] in "~&" or word.startswith("%R~")]
    assert {"~life", "&notices:*", "%R~marker:orders:*"} < {*names}
    expected = plain.replace("user orders-", f"user {STAGING}orders-")
    for sign in ("~", "&"):
        expected = expected.replace(f" {sign}", f" {sign}{STAGING}")
    assert prefixed == expected.replace(" %R~", f" %R~{STAGING}")


def test_command_alone_may_note_owners(passwords: Path) -> None:
    lines = run("redis-users.sh", "orders", str(passwords), TOPIC_PREFIX=STAGING).splitlines()
    may = [line.split()[1] for line in lines if f"~{STAGING}owner:orders:*" in line.split()]
    assert may == [f"{STAGING}orders-command"]
