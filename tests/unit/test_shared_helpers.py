"""What tests share lies in modules that are no tests."""

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_no_file_imports_from_a_test_file() -> None:
    imported = [
        f"{path.relative_to(TESTS)}: {found.module}"
        for path in sorted(TESTS.rglob("*.py"))
        for found in ast.walk(ast.parse(path.read_text()))
        if isinstance(found, ast.ImportFrom)
        and (found.module or "").rpartition(".")[2].startswith("test_")
    ]
    assert imported == []
