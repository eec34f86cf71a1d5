"""Services that are processes of their own, and what they have written down."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from tests.acceptance.command_fleet import Commanded
from tests.acceptance.fleet import LIMIT, ROOT
from tests.faults.command_oracle import answers_in
from tests.faults.command_senders import Answered, Asked, Plan

Servers = tuple[str, str, str]
OPEN = ("unavailable", "conflict")


class Service:
    """A process of `tests.faults.command_senders`."""

    def __init__(self, fleet: Commanded, plan: Plan) -> None:
        self.outcomes = Path(plan.outcomes)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.faults.command_senders",
                msgspec.json.encode(plan).decode(),
            ],
            env=os.environ | fleet.environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self) -> int:
        _, said = self.process.communicate(timeout=LIMIT)
        assert self.process.returncode in (0, -9), said
        return self.process.returncode

    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.ended()


class Served(Commanded):
    """A fleet whose commands come from services that are processes of their own."""

    def __init__(self, servers: Servers, folder: Path, module: str, **settings: str) -> None:
        super().__init__(servers, folder, module, **settings)
        self.environment["PYTHONPATH"] = str(ROOT)
        self.outcomes: list[Path] = []

    def service(self, asked: Iterable[Asked], width: int, **plan: str | float) -> Service:
        """Started; it sends these commands, and ends after the last of them."""
        number = len(self.outcomes)
        commands = self.folder / f"commands-{number}"
        asked = list(asked)
        commands.write_bytes(b"\n".join(msgspec.json.encode(each) for each in asked))
        outcomes = self.folder / f"outcomes-{number}"
        self.outcomes.append(outcomes)
        whole = {"domain": self.domain, "commands": str(commands), "outcomes": str(outcomes)}
        return Service(self, msgspec.convert({**whole, "width": width, **plan}, Plan))

    def answers(self) -> list[Answered]:  # type: ignore[override]
        """What all services have written down."""
        return answers_in(*self.outcomes)

    def undecided(self, asked: Mapping[str, Asked]) -> list[Asked]:
        """In the order in which they were asked."""
        decided = {a.command_id for a in self.answers() if a.outcome not in OPEN}
        return [each for name, each in asked.items() if name not in decided]
