"""A fleet on a file that is killed again and again: COUNT=200 for the whole run."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from tests.acceptance import file_fleet_senders
from tests.acceptance.file_fleet import assert_kept, environment

ROOT = Path(__file__).parents[2]
COUNT = int(os.environ.get("COUNT", "3"))
PATIENCE = 60.0


def test_what_was_accepted_is_stored_once_however_often_the_fleet_is_killed(tmp_path: Path) -> None:
    answers, chance = tmp_path / "answers", random.Random(COUNT)
    for run in range(COUNT):
        with started(tmp_path, f"run{run}", answers) as process:
            wait_for_answers(process, answers, run + 1)
            time.sleep(chance.uniform(0, 1))
            process.kill()
    lines = [line.split() for line in answers.read_text().splitlines() if line != "ready"]
    accepted = {(domain, aggregate, event) for domain, aggregate, event in lines}
    print(f"{COUNT} kills, {len(accepted)} accepted")
    assert len(accepted) > COUNT
    assert_kept(tmp_path / "data", accepted)


def started(folder: Path, run: str, answers: Path) -> "subprocess.Popen[bytes]":
    module = file_fleet_senders.__name__
    with (folder / "output").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, run, str(answers)],
            cwd=ROOT,
            env=environment(folder / "data"),
            stderr=output,
        )


def wait_for_answers(process: "subprocess.Popen[bytes]", answers: Path, runs: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        begun = answers.read_text().split("ready\n") if answers.exists() else []
        if len(begun) > runs and begun[-1]:
            return
        assert process.poll() is None, (answers.parent / "output").read_text()[-6000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
