"""No modules of the package import each other in a circle, for type checkers neither."""

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def find_circle(imports: dict[str, set[str]]) -> list[str]:
    """Return the modules of a circle, the first one again at its end; nothing without one."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def test_the_package_has_no_circle_of_modules() -> None:
    graph = grimp.build_graph("eventfleet", exclude_type_checking_imports=False)
    imports = {each: graph.find_modules_directly_imported_by(each) for each in graph.modules}
    assert len(imports) > 300
    assert find_circle(imports) == []


@pytest.mark.parametrize("length", [2, 5])
def test_a_circle_is_found(length: int) -> None:
    imports = {str(n): {str((n + 1) % length), "other"} for n in range(length)}
    assert len(find_circle(imports)) == length + 1
