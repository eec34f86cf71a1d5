"""The table of spellings in the docs is that of the code."""

import re
from pathlib import Path

from eventfleet.cli.send import send
from eventfleet.topics.event import WIRE_NAMES, CommandRecord
from eventfleet.web.commands import OPERATIONS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "words.md").read_text().partition("## One thing at its doors")[2]
ROWS = [
    [re.findall(r"`([^`]+)`", cell) for cell in row.strip("|").split("|")]
    for row in PAGE.splitlines()
    if row.startswith("| ") and "`" in row and "| thing |" not in row
]


def test_each_attribute_stands_beside_the_name_that_it_has_elsewhere() -> None:
    told = {names[0]: attribute[0] for _, attribute, names, *_ in ROWS}
    assert WIRE_NAMES.items() <= told.items()
    others = told.keys() - WIRE_NAMES.keys() - {"command_id"}
    assert others <= {*CommandRecord.__struct_fields__}
    assert all(told[name] == name for name in others)


def test_each_header_and_option_of_a_command_has_its_row() -> None:
    [operation] = OPERATIONS
    headers = {header for row in ROWS for header in row[3]} - {"sub"}
    assert headers == {*operation.headers} - {"Prefer"}
    options = {option for row in ROWS for option in row[-1]} - {"DOMAIN", "ID"}
    assert options <= {each for parameter in send.params for each in parameter.opts}


def test_no_page_spells_an_attribute_in_a_way_that_is_none() -> None:
    wrong = re.compile(r"\b(reply-to|replyTo|correlationId|causationId|schemaVersion|X-Reply\w*)\b")
    found = {page.name: wrong.findall(page.read_text()) for page in DOCS.rglob("*.md")}
    assert {name: words for name, words in found.items() if words} == {}
