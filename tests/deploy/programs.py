"""Programs that check files of deploy/."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SECONDS = 60.0


def found(program: str | Path) -> Path:
    """The program; a test that needs it fails in CI where it is absent, and skips elsewhere."""
    path = shutil.which(program)
    if path is None:
        reason = f"{Path(program).name} is not installed: python -m tests.deploy.install"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(path)


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
