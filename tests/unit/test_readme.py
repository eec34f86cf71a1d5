"""What the README shows is true."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from topics.event import EventRecord
from workers.cli import main

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture
def shown() -> dict[str, Any]:
    """The names of the README's domain file."""
    [block] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
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


def test_each_command_that_is_listed_exists() -> None:
    listed = re.findall(r"^eventfleet ([\w-]+)(?: (create))?", README, re.MULTILINE)
    assert len(listed) == 13
    for name, below in listed:
        found = CliRunner().invoke(main, [name, *filter(None, [below]), "--help"])
        assert found.exit_code == 0, name
