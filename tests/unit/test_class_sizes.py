"""The classes that own the state of roles, workers and deciders stay small."""

import ast
from pathlib import Path

import pytest

import eventfleet

PACKAGE = Path(eventfleet.__file__).parent
MAX_ATTRIBUTES = 15
MAX_METHODS = 20
SMALL = {
    "deciders/command_lookup.py": "CommandLookup",
    "deciders/manager.py": "Manager",
    "roles/append.py": "AppendRole",
    "roles/append_parking.py": "AppendParking",
    "roles/build_choice.py": "BuildChoice",
    "roles/build_parking.py": "BuildParking",
    "roles/event_applier.py": "EventApplier",
    "roles/kept_builds.py": "KeptBuilds",
    "roles/logged_parking.py": "LoggedParking",
    "roles/parked_set.py": "ParkedSet",
    "roles/parking.py": "Parking",
    "roles/project.py": "ProjectRole",
    "roles/relay.py": "RelayRole",
    "roles/snapshot.py": "SnapshotRole",
    "roles/view_redrive.py": "ViewRedrive",
    "workers/owned_session.py": "OwnedSession",
    "workers/owner.py": "Owner",
    "workers/owner_outage.py": "OwnerOutage",
    "workers/owner_progress.py": "OwnerProgress",
}


def class_of(source: str, name: str) -> ast.ClassDef:
    [found] = [
        each
        for each in ast.parse(source).body
        if isinstance(each, ast.ClassDef) and each.name == name
    ]
    return found


def attributes_of(found: ast.ClassDef) -> set[str]:
    """The attributes that the class itself sets on its instances."""
    return {
        each.attr
        for each in ast.walk(found)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    }


def methods_of(found: ast.ClassDef) -> list[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [each.name for each in found.body if isinstance(each, kinds)]


@pytest.mark.parametrize("file", SMALL)
def test_a_class_has_few_attributes_and_methods(file: str) -> None:
    found = class_of((PACKAGE / file).read_text(), SMALL[file])
    assert len(attributes_of(found)) <= MAX_ATTRIBUTES
    assert len(methods_of(found)) <= MAX_METHODS


def test_attributes_and_methods_are_counted_once_each() -> None:
    source = """
class Counted:
    def __init__(self):
        self.a, self._b = 1, 2
        self.a += other.c

    @property
    def size(self):
        return self.d

    async def run(self):
        self.e: int = 3
"""
    found = class_of(source, "Counted")
    assert attributes_of(found) == {"a", "_b", "e"}
    assert methods_of(found) == ["__init__", "size", "run"]
