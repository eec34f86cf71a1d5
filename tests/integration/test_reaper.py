"""No server outlives the tests that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import time
from tests.servers.redis import Redis

server = Redis()
server.start()
print(server._process.pid, flush=True)
time.sleep(600)
"""


def test_a_server_ends_with_a_process_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    """False also for a process that has ended and that nobody waits for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
