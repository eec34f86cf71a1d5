"""What the README and the guides show is true."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from eventfleet.cli import main
from eventfleet.domains.bank import Opened, Withdraw, Withdrawn, bank
from eventfleet.testing import given
from eventfleet.topics.event import EventRecord

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TESTING = (ROOT / "docs" / "guides" / "test-a-domain.md").read_text()


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def shown() -> dict[str, Any]:
    """The names of the README's domain file."""
    block, _ = blocks(README)
    assert len([line for line in block.splitlines() if line.strip()]) <= 33
    names: dict[str, Any] = {"__name__": "shown"}
    exec(block, names)
    return names


def test_the_domain_works(shown: dict[str, Any]) -> None:
    domain, state = shown["parcels"], shown["Parcel"]()
    for version, (kind, data) in enumerate(
        [("Posted", {"grams": 5}), ("Scanned", {"depot": "x"}), ("Delivered", {})], 1
    ):
        event = EventRecord(
            id=str(version),
            type=kind,
            domain="parcels",
            aggregate_id="p",
            time=datetime(2026, 1, 1, tzinfo=UTC),
            data=data,
            version=version,
        )
        domain.check(event)
        state = domain.fold(state, event)
    assert state == shown["Parcel"](grams=5, depots=("x",), delivered=True)


def test_the_domains_test_passes() -> None:
    _, block = blocks(README)
    exec(block, {"__name__": "shown"})


@pytest.mark.parametrize("block", blocks(TESTING))
def test_the_guides_tests_pass(block: str) -> None:
    names: dict[str, Any] = {"__name__": "shown"}
    exec(block, names)
    tests = [test for name, test in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


def test_the_guide_shows_what_a_failure_says() -> None:
    story = given(bank, Opened(owner="ann", currency="EUR", overdraft_limit=50))
    with pytest.raises(AssertionError) as caught:
        story.when(Withdraw(amount=20, fee=1)).then(Withdrawn(amount=20))
    assert f"```\n{caught.value}\n```" in TESTING


def test_each_command_that_is_listed_exists() -> None:
    listed = re.findall(r"^eventfleet ([\w-]+)(?: (create))?", README, re.MULTILINE)
    assert len(listed) == 13
    for name, below in listed:
        found = CliRunner().invoke(main, [name, *filter(None, [below]), "--help"])
        assert found.exit_code == 0, name
