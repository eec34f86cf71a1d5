"""All scenarios, in the order in which they run."""

from click import BadParameter

from benchmarks.scenario import Scenario, is_short
from benchmarks.scenarios import (
    append,
    bus,
    command,
    documents,
    file_append,
    file_lone,
    file_relay,
    file_snapshot,
    fold,
    http_command,
    idle,
    in_process_command,
    latest_state,
    lone_command,
    lone_synchronous,
    pass_through,
    project,
    relay,
    snapshot,
)

SHORT = [pass_through.SCENARIO, append.SCENARIO, relay.SCENARIO, command.SCENARIO]
ALL = [
    pass_through.SCENARIO,
    append.SCENARIO,
    snapshot.SCENARIO,
    relay.SCENARIO,
    project.SCENARIO,
    command.SCENARIO,
    in_process_command.SCENARIO,
    lone_command.SCENARIO,
    lone_synchronous.SCENARIO,
    http_command.ASYNCHRONOUS,
    http_command.SYNCHRONOUS,
    http_command.LONE,
    fold.SCENARIO,
    latest_state.SCENARIO,
    documents.SCENARIO,
    *bus.SCENARIOS,
    idle.SCENARIO,
    file_append.SCENARIO,
    file_snapshot.SCENARIO,
    file_relay.SCENARIO,
    file_lone.SCENARIO,
]


def select(names: str) -> list[Scenario]:
    """Return the scenarios with these names, separated by commas, in the order of `ALL`.

    Without names: `SHORT` or `ALL`. BadParameter for an unknown name.
    """
    if not names:
        return SHORT if is_short() else ALL
    wanted = {_normalize(name) for name in names.split(",")}
    known = [_normalize(scenario.name) for scenario in ALL]
    if unknown := sorted(wanted.difference(known)):
        raise BadParameter(
            f"no scenario is named {', '.join(unknown)}; the names are {', '.join(known)}"
        )
    return [scenario for scenario in ALL if _normalize(scenario.name) in wanted]


def _normalize(name: str) -> str:
    return name.strip().replace("_", "-").replace(" ", "-")
