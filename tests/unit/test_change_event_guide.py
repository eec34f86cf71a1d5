"""The guide to changed events is true: its domain reads events of all times, and check says so."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from eventfleet.cli import main
from eventfleet.model.domain import Domain
from eventfleet.model.event_shapes import declared_shapes, update_shapes

GUIDE = (Path(__file__).parents[2] / "docs/guides/change-an-event.md").read_text()
DOMAIN, TESTS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
OLDEST = [{"weight": 5, "clerk": "ann"}, {"weight": 6, "clerk": "ben"}]
UPCASTERS = "    upcasters={Posted: [rename_weight, drop_clerk]},\n"
COMMANDS = "    commands=[Emits(Post, Posted, after={START})],\n"
FIELDS = "    grams: int\n    express: bool = False  # added later, with a default\n"


def declared(module: str) -> Domain[Any]:
    """The domain of a module's text."""
    names: dict[str, Any] = {"__name__": "shown"}
    exec(module, names)
    domain: Domain[Any] = names["parcels"]
    return domain


def changed(fields: str, upcasters: str) -> str:
    """The guide's domain with other fields and upcasters of its event, and without commands."""
    module = DOMAIN
    for line, other in ((FIELDS, fields), (UPCASTERS, upcasters), (COMMANDS, "")):
        assert line in module
        module = module.replace(line, other)
    return module


def refused(before: str, after: str) -> list[str]:
    """Why a process with the domain after does not start on what the one before has stored."""
    recorded = declared_shapes(declared(before))
    return update_shapes(recorded, declared_shapes(declared(after))).refused


def check(folder: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Check a module against a file with two events of the oldest shape; status and output."""
    (folder / "changed_parcels.py").write_text(module)
    lines = [
        {
            "specversion": "1.0",
            "id": f"e-{number}",
            "type": "Posted",
            "source": "parcels",
            "subject": f"p-{number}",
            "time": "2026-01-01T00:00:00Z",
            "data": data,
            "version": 1,
            "position": f"0-0-{number}",
        }
        for number, data in enumerate(OLDEST, 1)
    ]
    file = folder / "parcels.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("EVENTFLEET_DOMAINS", "changed_parcels")
    monkeypatch.delitem(sys.modules, "changed_parcels", raising=False)
    done = CliRunner().invoke(main, ["check", "--events", str(file)])
    return done.exit_code, done.output


def test_the_guides_tests_pass() -> None:
    names: dict[str, Any] = {"__name__": "shown"}
    exec(DOMAIN + TESTS, names)
    names["test_parcels_of_all_times_are_read"]()


def test_check_finds_nothing_with_the_upcasters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, output = check(tmp_path, DOMAIN, monkeypatch)
    assert (status, "2 events" in output) == (0, True), output


def test_check_says_without_them_what_the_guide_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, output = check(tmp_path, DOMAIN.replace(UPCASTERS, ""), monkeypatch)
    [shown] = re.findall(r"^ *(parcels: \[event\].*)$", GUIDE, re.MULTILINE)
    assert (status, shown in output.splitlines()) == (1, True), output


@pytest.mark.parametrize(
    ("fields", "upcasters", "needed"),
    [
        ("    grams: int\n    clerk: str = ''\n", "", []),
        ("    grams: int\n    clerk: str\n", "", ["`clerk` is new and has no default"]),
        ("    grams: int\n    clerk: str\n", "    upcasters={Posted: [rename_weight]},\n", []),
        ("    grams: int = 0\n", "", []),
        ("    grams: int | None\n", "", []),
        ("    weight: int\n", "", ["`grams` is gone", "`weight` is new"]),
        ("    grams: str\n", "", ["`grams` has another type"]),
    ],
)
def test_a_start_is_refused_just_where_the_guide_asks_for_an_upcaster(
    fields: str, upcasters: str, needed: list[str]
) -> None:
    reasons = refused(changed("    grams: int\n", ""), changed(fields, upcasters))
    assert len(reasons) == len(needed), reasons
    assert all(need in reason for need, reason in zip(needed, reasons, strict=True)), reasons


def test_another_default_is_refused() -> None:
    before, after = (changed(f"    grams: int = {number}\n", "") for number in (0, 1))
    assert "has another default" in refused(before, after)[0]


def test_a_renamed_class_keeps_its_type() -> None:
    renamed = DOMAIN.replace("Posted", "Handed").replace(
        "class Handed(Event):\n", 'class Handed(Event):\n    event_type: ClassVar[str] = "Posted"\n'
    )
    assert refused(DOMAIN, f"from typing import ClassVar\n\n{renamed}") == []
    assert [shape.type for shape in declared_shapes(declared(DOMAIN))] == ["Posted"]
