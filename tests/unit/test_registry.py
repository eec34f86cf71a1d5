"""Domains are found by the dotted names of modules, a team's own among them."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventfleet.cli.local_fleet import SAMPLE_DOMAINS
from eventfleet.domains.bank import bank
from eventfleet.domains.cart import cart
from eventfleet.domains.game import game
from eventfleet.domains.orders import orders
from eventfleet.domains.process_log import process_log
from eventfleet.domains.trading import trading
from eventfleet.model.errors import DeclarationError
from eventfleet.model.registry import find_domains
from eventfleet.runtime.settings import split

DOMAIN = """
from eventfleet import Domain, Event, State

class Opened(Event):
    owner: str

class Account(State):
    owner: str = ""

def evolve(account, event):
    return Account(owner=event.owner)

{variable} = Domain({name!r}, state=Account, evolve=evolve, events=[Opened])
"""

WriteModule = Callable[[str, str], int]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Makes a module of this name in a team's own package `team`."""
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "team"
    package.mkdir()
    (package / "__init__.py").touch()
    yield lambda name, text: (package / f"{name}.py").write_text(text)
    for name in [n for n in sys.modules if n.partition(".")[0] == "team"]:
        del sys.modules[name]


def problem(*modules: str) -> str:
    with pytest.raises(DeclarationError) as caught:
        find_domains(modules)
    return str(caught.value)


def test_the_domains_that_come_with_the_fleet_are_found() -> None:
    found = find_domains(split(SAMPLE_DOMAINS))
    assert found == {
        "orders": orders,
        "bank": bank,
        "trading": trading,
        "cart": cart,
        "game": game,
        "process_log": process_log,
    }


def test_a_teams_own_module_is_found_beside_them(write: WriteModule) -> None:
    write("bank", DOMAIN.format(variable="anything", name="bank"))
    found = find_domains(["eventfleet.domains.orders", "team.bank"])
    assert list(found) == ["orders", "bank"]
    assert found["bank"].latest_schema_version("Opened") == 1


def test_a_module_may_declare_several(write: WriteModule) -> None:
    write(
        "both",
        DOMAIN.format(variable="one", name="one") + DOMAIN.format(variable="two", name="two"),
    )
    assert sorted(find_domains(["team.both"])) == ["one", "two"]


def test_a_domain_that_another_module_imports_is_still_one(write: WriteModule) -> None:
    write("uses", "from eventfleet.domains.orders import orders\nsame = orders\n")
    assert find_domains(["eventfleet.domains.orders", "team.uses"]) == {"orders": orders}


def test_a_module_named_twice_is_read_once() -> None:
    assert find_domains(["eventfleet.domains.orders"] * 2) == {"orders": orders}


def test_a_missing_module_is_named() -> None:
    reason = "can't be imported: ModuleNotFoundError: No module named 'nobodys'"
    assert problem("eventfleet.domains.orders", "nobodys.bank") == f"nobodys.bank: {reason}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import nobodys_library", "ModuleNotFoundError: No module named 'nobodys_library'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError: "),
        ("from eventfleet import Nothing", "ImportError: cannot import name 'Nothing'"),
    ],
)
def test_a_module_that_can_not_be_imported_says_why(
    write: WriteModule, text: str, why: str
) -> None:
    write("broken", f"\n\n{text}")
    told = problem("team.broken")
    assert told.startswith(f"team.broken: can't be imported: {why}")
    assert told.endswith("/team/broken.py:3)")


@pytest.mark.parametrize("name", [".bank", "", "a..b"])
def test_what_is_no_name_of_a_module_is_refused(name: str) -> None:
    assert problem(name).startswith(f"{name}: can't be imported: ")


def test_a_module_without_a_domain_is_refused(write: WriteModule) -> None:
    write("empty", "from eventfleet import Domain")
    assert problem("team.empty") == "team.empty: declares no Domain"


def test_a_wrong_declaration_is_named_with_its_module(write: WriteModule) -> None:
    write("wrong", DOMAIN.format(variable="bank", name="Big Bank"))
    assert problem("team.wrong").startswith("team.wrong: domain 'Big Bank': ")
    assert re.search(r" \(/.*/team/wrong\.py:\d+\)$", problem("team.wrong"))


def test_the_line_is_the_teams_where_a_library_raises(write: WriteModule) -> None:
    write("library", "import json\n\njson.loads('?')\n")
    assert problem("team.library").endswith("/team/library.py:3)")


def test_two_domains_of_a_name_are_refused(write: WriteModule) -> None:
    write("one", DOMAIN.format(variable="bank", name="bank"))
    write("two", DOMAIN.format(variable="bank", name="bank"))
    assert (
        problem("team.one", "team.two") == "team.two: another module declares a domain 'bank', too"
    )
