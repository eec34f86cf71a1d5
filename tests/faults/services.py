"""Processes that send commands, and the outcomes that they have written down."""

import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT, TIMEOUT_SECONDS
from tests.faults.command_oracle import read_answers
from tests.faults.command_senders import CommandAnswer, SenderPlan, SentCommand
from tests.program import ForkedProgram

Servers = tuple[str, str, str]
UNDECIDED = ("unavailable", "conflict")


class SenderProcess:
    """A process of `tests.faults.command_senders`."""

    def __init__(self, fleet: CommandFleet, plan: SenderPlan) -> None:
        self.outcomes = Path(plan.outcomes)
        self._log = self.outcomes.with_name(f"{self.outcomes.name}.log")
        self.process = ForkedProgram(
            [msgspec.json.encode(plan).decode()],
            *(os.environ | fleet.environment, ROOT, self._log),
            module="tests.faults.command_senders",
        )

    def wait(self) -> int:
        status = self.process.wait(TIMEOUT_SECONDS)
        assert status in (0, -9), self._log.read_text(errors="replace")
        return status

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.wait()


class ServedFleet(CommandFleet):
    """A fleet whose commands come from services that are processes of their own."""

    def __init__(self, servers: Servers, folder: Path, module: str, **settings: str) -> None:
        super().__init__(servers, folder, module, **settings)
        self.environment["PYTHONPATH"] = str(ROOT)
        self.outcomes: list[Path] = []

    def service(
        self, sent_commands: Iterable[SentCommand], width: int, **plan: str | float
    ) -> SenderProcess:
        """Start a process that sends these commands and then ends."""
        number = len(self.outcomes)
        commands = self.folder / f"commands-{number}"
        sent_commands = list(sent_commands)
        commands.write_bytes(b"\n".join(msgspec.json.encode(each) for each in sent_commands))
        outcomes = self.folder / f"outcomes-{number}"
        self.outcomes.append(outcomes)
        whole = {"domain": self.domain, "commands": str(commands), "outcomes": str(outcomes)}
        return SenderProcess(self, msgspec.convert({**whole, "width": width, **plan}, SenderPlan))

    def answers(self) -> list[CommandAnswer]:
        """The answers that all processes have written down."""
        return read_answers(*self.outcomes)

    def undecided(self, sent_commands: Mapping[str, SentCommand]) -> list[SentCommand]:
        """The commands without a decision, in their order."""
        decided = {a.command_id for a in self.answers() if a.outcome not in UNDECIDED}
        return [each for name, each in sent_commands.items() if name not in decided]
