"""The README and the guides are true; tests/acceptance/test_readme.py runs the README's blocks."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from eventfleet.cli import main
from eventfleet.domains.bank import Opened, Withdraw, Withdrawn, bank
from eventfleet.runtime.settings import Settings
from eventfleet.testing import given

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMAND_LINE = (ROOT / "docs" / "command-line.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
MAX_README_LINES = 150
MAX_EXAMPLE_LINES = 25
TESTING = (ROOT / "docs" / "guides" / "test-a-domain.md").read_text()
CONCURRENCY = (ROOT / "docs" / "guides" / "optimistic-concurrency.md").read_text()


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("block", [*blocks(TESTING), blocks(CONCURRENCY)[-1]])
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


def test_each_command_is_listed_and_each_listed_one_exists() -> None:
    listed = re.findall(r"^eventfleet ([\w-]+)(?: (create))?", COMMAND_LINE, re.MULTILINE)
    assert {name for name, _ in listed} == {*main.commands}
    for name, below in listed:
        found = CliRunner().invoke(main, [name, *filter(None, [below]), "--help"])
        assert found.exit_code == 0, name


def test_each_setting_that_is_named_exists() -> None:
    settings = (ROOT / "docs" / "settings.md").read_text()
    named = {name.lower() for name in re.findall(r"`EVENTFLEET_(\w+)`", README + settings)}
    assert len(named) > 5
    assert named <= {*Settings.model_fields}


def test_the_readme_is_short_and_so_is_its_example() -> None:
    assert len(README.splitlines()) <= MAX_README_LINES
    example = blocks(README)[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= MAX_EXAMPLE_LINES
    first, second = README.index("pip install"), README.index("make run")
    assert first < second < README.index("```python")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_to_a_file(page: Path) -> None:
    for link in re.findall(r"\]\(([\w/.-]+)(?:#[\w-]+)?\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_the_names_of_the_requirement_documents_are_on_one_page() -> None:
    texts = [*PAGES, *ROOT.glob("eventfleet/**/*.py"), *ROOT.glob("examples/**/*.py")]
    named = r"\b[Dd]ocuments? 00[1-5]\b|\b[Tt]he study\b|\bnodestorage\b"
    found = [path for path in texts if re.search(named, path.read_text())]
    assert [path.name for path in found] == ["requirements.md"]


def test_each_library_is_said_to_be_for_something() -> None:
    page = (ROOT / "docs" / "libraries.md").read_text()
    named = {
        name
        for cell in re.findall(r"^\| (.*?) \|", page, re.MULTILINE)
        for name in cell.split(", ")
    }
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*declared["dependencies"], *declared["optional-dependencies"]["nats"]]
    assert {re.split(r"[^\w.-]", each)[0] for each in needed} - named == set()


def test_each_decision_is_listed_with_the_architecture() -> None:
    listed = (ROOT / "docs" / "architecture.md").read_text().partition("\n## Decisions\n")[2]
    pages = {path.name for path in ROOT.glob("docs/decisions/*.md")}
    assert set(re.findall(r"\(decisions/([\w-]+\.md)\)", listed)) == pages


def test_each_room_is_on_the_architecture_page_and_in_the_decision() -> None:
    rooms = {path.parent.name for path in ROOT.glob("eventfleet/*/__init__.py")}
    architecture, decision = (
        set(re.findall(r"`(\w+)/?`", (ROOT / "docs" / page).read_text()))
        for page in ("architecture.md", "decisions/one-package.md")
    )
    assert rooms - architecture == set()
    assert rooms - decision == set()


@pytest.mark.parametrize("name", ["architecture.md", "requirements.md"])
def test_each_file_and_class_on_the_architecture_page_exists(name: str) -> None:
    page = (ROOT / "docs" / name).read_text()
    sources = {
        str(path.relative_to(ROOT / "eventfleet")) for path in ROOT.glob("eventfleet/**/*.py")
    }
    named = set(re.findall(r"`([\w/]+\.py)`", page))
    assert len(named) > (20 if name == "architecture.md" else 1)
    assert [name for name in named if not any(path.endswith(name) for path in sources)] == []
    code = "".join(path.read_text() for path in ROOT.glob("eventfleet/**/*.py"))
    members = re.findall(r"`(?:[a-z_.]+\.)?([A-Z][a-z]\w+)(?:\.(\w+))?`", page)
    assert [name for name, _ in members if f"class {name}" not in code] == []
    assert [member for _, member in members if member and f"def {member}(" not in code] == []
