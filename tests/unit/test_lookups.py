"""A newcomer's look-ups: each ends on one page, three clicks from the README at most."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
MAX_CLICKS = 3


class Answer(NamedTuple):
    """Where a look-up ends: a page, the heading in it, and what must stand below that."""

    page: str
    heading: str
    says: str


LOOKUPS = {
    "run on my own servers": Answer(
        "docs/settings.md", "On servers of your own", r"export EVENTFLEET_KAFKA_BROKERS="
    ),
    "send a command twice": Answer(
        "docs/guides/send-commands.md", "Send it again", r"Idempotency-Key"
    ),
    "give read access": Answer("docs/guides/http.md", "Access", r"`orders:read"),
    "read my own write": Answer(
        "docs/guides/wait-for-a-stage.md", "Wait for a stage", r"reads right after it writes"
    ),
    "rename a field": Answer("docs/guides/change-an-event.md", "Rename a field", r"upcaster"),
    "consume a route": Answer(
        "docs/guides/read-events.md", "A reader in Python", r"isolation_level=\"read_committed\""
    ),
    "erase one customer": Answer(
        "docs/guides/personal-data.md", "Erase one customer", r"can't be erased yet"
    ),
    "more partitions": Answer(
        "docs/guides/more-partitions.md", "A domain without views", r"topics raise-epoch"
    ),
    "what a stage is": Answer(
        "docs/guides/wait-for-a-stage.md", "Wait for a stage", r"\| `projected` \|"
    ),
    "what a scope is": Answer("docs/guides/http.md", "Access", r"`metrics`"),
}


@cache
def clicks() -> dict[str, int]:
    """How many links away from the README each page is, by its path in the repository."""
    found, pages = {"README.md": 0}, ["README.md"]
    for page in pages:
        for link in links(page):
            if link not in found and link.endswith(".md"):
                found[link] = found[page] + 1
                pages.append(link)
    return found


def links(page: str) -> Iterator[str]:
    """The files that a page's links lead to."""
    for link in re.findall(r"\]\(([\w/.-]+)(?:#[\w-]+)?\)", (ROOT / page).read_text()):
        target = (ROOT / page).parent / link
        yield str(target.resolve().relative_to(ROOT.resolve()))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them; those in blocks of code are none."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in kept}


def section(page: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its level or above."""
    text = (ROOT / page).read_text()
    start = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert start, f"{page} has no heading {heading!r}"
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_a_lookup_ends_on_one_page_within_three_clicks(lookup: str) -> None:
    page, heading, says = LOOKUPS[lookup]
    assert clicks().get(page, MAX_CLICKS + 1) <= MAX_CLICKS
    assert re.search(says, " ".join(section(page, heading).split()))


def test_every_page_is_found_from_the_readme() -> None:
    pages = {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")}
    far = {page for page in pages if clicks().get(page, MAX_CLICKS + 1) > MAX_CLICKS}
    assert far == set()


@pytest.mark.parametrize(
    "page", ["README.md", *(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))]
)
def test_each_anchor_of_a_link_is_a_heading(page: str) -> None:
    text = (ROOT / page).read_text()
    for link, anchor in re.findall(r"\]\(([\w/.-]*)#([\w-]+)\)", text):
        target = (ROOT / page).parent / link if link else ROOT / page
        assert anchor in anchors(target), f"{link}#{anchor}"
