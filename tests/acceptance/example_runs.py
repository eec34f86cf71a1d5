"""Runs the examples."""

import os
import subprocess
import sys

from tests.acceptance.fleet import ROOT, TIMEOUT_SECONDS, Fleet


def run_example(fleet: Fleet, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / arguments[0], *arguments[1:]],
        env=fleet.environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        cwd=fleet.folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
