"""Failed assertions of the helpers are explained as those of tests are."""

from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

HELPERS = (
    "accounts",
    "command_oracle",
    "fleet_oracle",
    "fleet_supervisor",
    "half_done_probe",
    "http_senders",
    "load",
    "outage",
    "poison",
    "services",
)

for module in HELPERS:
    pytest.register_assert_rewrite(f"tests.faults.{module}")


@pytest.fixture
def new_fleet(kafka: str, mongo_url: str, tmp_path: Path) -> Callable[..., Any]:
    """Makes fleets of the domain in a module, each with topics and a database of its own."""
    from tests.acceptance.fleet import ROOT, Fleet

    def make(module: str = "poisoned") -> Fleet:
        folder = Path(mkdtemp(dir=tmp_path))
        fleet = Fleet(kafka, mongo_url, folder, f"tests.acceptance.{module}")
        fleet.environment["PYTHONPATH"] = str(ROOT)
        return fleet

    return make
