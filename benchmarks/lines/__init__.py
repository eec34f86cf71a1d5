"""The lines, in the order in which they are run and shown."""

from importlib import import_module
from importlib.util import find_spec

from benchmarks.line import Line

NAMES = (
    "pass_through",
    "append",
    "snapshot",
    "relay",
    "command",
    "in_process_command",
    "fold",
    "latest_state",
)
SHORT = ("pass_through", "append", "relay", "command")


def lines(names: tuple[str, ...]) -> list[Line]:
    """The lines of these names."""
    modules = [f"{__name__}.{name}" for name in names]
    return [import_module(module).LINE for module in modules if find_spec(module)]
