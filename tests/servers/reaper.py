"""Kills the servers of a process that has ended, however it ended: Ctrl-C and kill -9 included."""

import subprocess
import sys
from functools import cache

PROGRAM = """
import os, sys
running = set()
for line in sys.stdin:
    pid = int(line)
    running.add(pid) if pid > 0 else running.discard(-pid)
for pid in running:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        pass
"""


@cache
def _reaper() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-c", PROGRAM]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def note(pid: int) -> None:
    """Note a server that runs; one that has ended by its number below zero."""
    pipe = _reaper().stdin
    assert pipe
    pipe.write(b"%d\n" % pid)
    pipe.flush()
