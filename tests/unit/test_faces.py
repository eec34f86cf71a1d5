"""The public faces: what they export, which errors a program can catch, and what they import."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import eventfleet
from eventfleet import errors
from eventfleet.errors import EventfleetError
from tests.unit.public_faces import FACES

DRIVERS = {
    *("aiohttp", "aiokafka", "faust", "hiredis", "joserfc", "mode", "motor", "prometheus_client"),
    *("pymongo", "redis", "starlette", "uvicorn"),
}
INTERNAL = ("eventfleet.cli", "eventfleet.roles", "eventfleet.workers", "eventfleet.runtime.http")
"""Their errors end a process of the fleet's own, and no program's call."""
INTERNAL_NAMES = {
    *("Fenced", "DoubtfulOffset", "OffsetMovedBack"),
    *("BusRestarted", "Interrupted"),
}
"""Raised to owners of partitions only, or by background tasks, whose state tells them."""


@pytest.mark.parametrize("face", FACES)
def test_each_exported_name_is_there(face: str) -> None:
    module = importlib.import_module(f"eventfleet{face}")
    assert len(set(module.__all__)) == len(module.__all__) > 0
    for name in module.__all__:
        assert getattr(module, name) is not None


def raised_outside() -> set[type[EventfleetError]]:
    """The error classes of all modules but those of the fleet's own processes."""
    for found in pkgutil.walk_packages(eventfleet.__path__, "eventfleet."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    found_classes, left = set[type[EventfleetError]](), [EventfleetError]
    while left:
        kind = left.pop()
        found_classes.add(kind)
        left += kind.__subclasses__()
    ours = {kind for kind in found_classes if kind.__module__.startswith("eventfleet.")}
    return {
        kind
        for kind in ours
        if not kind.__module__.startswith(INTERNAL) and kind.__name__ not in INTERNAL_NAMES
    }


def test_each_error_that_reaches_a_program_can_be_caught() -> None:
    exported = {getattr(errors, name) for name in errors.__all__}
    assert exported == raised_outside()


def test_a_name_that_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        errors.Nothing  # noqa: B018


@pytest.mark.parametrize(
    "module", ["eventfleet", "eventfleet.errors", "eventfleet.testing", "eventfleet.domains.orders"]
)
def test_declaring_and_catching_load_no_driver(module: str) -> None:
    code = f"import sys, {module}; print(*(n.partition('.')[0] for n in sys.modules))"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(shown.stdout.split())
    assert "eventfleet" in loaded
    assert not loaded & DRIVERS
