"""The examples, as a reader would run them."""

import os
import subprocess
import sys
from pathlib import Path

from tests.acceptance.command_fleet import CommandFleet
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


def test_a_program_of_ones_own_sends_commands(
    kafka: str, mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    with CommandFleet(
        (kafka, mongo_url, redis_url), tmp_path, "eventfleet.domains.orders"
    ) as fleet:
        fleet.start("append")
        said = run_example(fleet, "send_commands.py").splitlines()
        assert said[-2:] == ["Accepted: 200", "Rejected: 100"]
