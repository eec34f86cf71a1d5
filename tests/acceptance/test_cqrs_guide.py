"""The guide to CQRS: its blocks run as they stand, one after the other, on a MongoDB."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "cqrs.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
URL, DATABASE = '"mongodb://localhost:27017"', '"mydb"'


@pytest.fixture
def program(mongo_url: str, prefix: str) -> Iterator[str]:
    """The guide's program, on the test's server and a database of its own."""
    text = "\n".join(BLOCKS)
    assert (text.count(URL), text.count(DATABASE)) == (1, 1)
    yield text.replace(URL, repr(mongo_url)).replace(DATABASE, repr(prefix))
    with MongoClient(mongo_url) as client:
        client.drop_database(prefix)


async def test_the_guides_blocks_are_one_program(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"__name__": "shown"}
    code = compile(program, "cqrs.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    try:
        if inspect.isawaitable(running := eval(code, names)):
            await running
    finally:
        if opening := names.get("opening"):
            await opening.__aexit__(None, None, None)
    assert capsys.readouterr().out == "Welcome, Jane Doe!\n"
    assert len(BLOCKS) == 10
