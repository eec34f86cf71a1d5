"""What the acceptance tests' fleets keep their data in: on servers, or in one file.

A module's fixture `fleet` has the parameters KINDS, and opens its fleet here.
"""

from pathlib import Path

import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import Fleet
from tests.acceptance.fleet_on_file import FileFleet

SERVERS, FILE = KINDS = ["servers", "file"]


def servers_only(reason: str) -> pytest.MarkDecorator:
    """Have a test run on servers alone, for a reason."""
    assert reason
    return pytest.mark.parametrize("fleet", [SERVERS], indirect=True)


def open_fleet(
    request: pytest.FixtureRequest, folder: Path, module: str, partitions: int = 4
) -> Fleet:
    """A fleet of one domain, of the kind that the fixture's parameter names."""
    if request.param == FILE:
        return FileFleet(folder, module, PARTITIONS=str(partitions))
    kafka, mongo_url = map(request.getfixturevalue, ("kafka", "mongo_url"))
    return Fleet(kafka, mongo_url, folder, module, partitions)


def open_command_fleet(
    request: pytest.FixtureRequest, folder: Path, module: str, **settings: str
) -> CommandFleet:
    """A fleet that takes commands, of the kind that the fixture's parameter names."""
    if request.param == FILE:
        return FileFleet(folder, module, **settings)
    kafka, mongo_url, redis_url = map(request.getfixturevalue, ("kafka", "mongo_url", "redis_url"))
    return CommandFleet((kafka, mongo_url, redis_url), folder, module, **settings)
