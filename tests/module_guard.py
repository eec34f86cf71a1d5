"""Fails a test session that has imported a room past its package."""

import sys

import pytest

ROOM_LINKS = frozenset({"topics", "snapshot_rules", "workers"})
FORMER_ROOMS = frozenset({"domains", "protocols", "service", "stores"})
OUTPUT = "modules_past_the_package"


class ModuleGuard:
    """Looks at the modules that are loaded at the end of a session, and of each of its workers.

    A room that is imported by its link at the top of the repository, or by its former name, is a
    second module: its classes are not those of `eventfleet`.
    """

    def __init__(self) -> None:
        self.found: set[str] = set()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """A worker of pytest-xdist has ended; one that crashed leaves no output."""
        self.found.update(getattr(node, "workeroutput", {}).get(OUTPUT, ()))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.found |= (ROOM_LINKS | FORMER_ROOMS) & sys.modules.keys()
        # The status of a worker's session does not reach the controller: its output does.
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output[OUTPUT] = sorted(self.found)
        if self.found and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.found:
            terminalreporter.section("imported past the package eventfleet", red=True)
            terminalreporter.line(", ".join(sorted(self.found)))
