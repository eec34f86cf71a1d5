"""A terminal in which a page's commands are typed."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

TIMEOUT_SECONDS = 120.0
LAST_LINE = "Ctrl-C ends the fleet"


class Terminal:
    """A terminal in the domain's folder, with the environment that a reader has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        scripts = sysconfig.get_path("scripts")
        kept = {k: v for k, v in os.environ.items() if not k.startswith("EVENTFLEET_")}
        paths = os.pathsep.join([scripts, os.environ["PATH"]])
        self.printed = ""
        self.environment = {**kept, "PATH": paths, "PYTHON": sys.executable}

    def run(self, lines: str, status: int = 0) -> str:
        done = subprocess.run(
            ["bash", "-c", lines],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def paste(self, exports: str) -> None:
        """Take over the variables that shell lines export."""
        values = self.run(f"{exports}\nenv -0").split("\0")
        self.environment = dict(value.split("=", 1) for value in values if value)


def _until_up(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if LAST_LINE in line:
            break
    assert process.poll() is None, "".join(lines)
    return "".join(lines)
