"""The examples, as a reader would run them."""

import os
import subprocess
import sys
from pathlib import Path

from tests.acceptance.commanding import Commanded
from tests.acceptance.fleet import LIMIT, ROOT


def test_a_program_of_ones_own_sends_commands(
    kafka: str, mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    with Commanded((kafka, mongo_url, redis_url), tmp_path, "domains.orders") as fleet:
        fleet.start("append")
        done = subprocess.run(
            [sys.executable, ROOT / "examples" / "send_commands.py"],
            env=fleet.environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.stdout.splitlines()[-2:] == ["Accepted: 200", "Rejected: 100"], done.stderr
        assert done.returncode == 0
