"""One word, one meaning: no two classes of the package share a name."""

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "eventfleet"
SAME_MEANING: frozenset[str] = frozenset()
"""Names that several classes have with one meaning, such as one for each of two drivers."""


def classes_by_name() -> dict[str, list[str]]:
    """The places of all classes of the package, nested ones too, by name."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    return places


def test_no_two_classes_share_a_name() -> None:
    shared = {name: places for name, places in classes_by_name().items() if len(places) > 1}
    assert len(classes_by_name()) > 500
    assert {name: places for name, places in shared.items() if name not in SAME_MEANING} == {}
    assert shared.keys() >= SAME_MEANING, "a listed name is not shared any more"
