"""Runs a command while its standard input is open: supervisor.py FOLDER GRACE COMMAND...

Standard input closes when the process at its other end ends, kill -9 included. The command then
gets SIGTERM and, GRACE seconds later, SIGKILL (at once, for a GRACE of 0), and FOLDER is
removed. When the command ends by itself its status is written to standard output, and the folder
stays until standard input is closed. Imports the standard library only.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from threading import Thread
from types import FrameType


def main(folder: str, grace: float, command: list[str]) -> None:
    try:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, _exit_on_signal)
        # Standard error is the folder's log. The process group lets the child's children be killed.
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=2, stderr=2, process_group=0
        )
        try:
            Thread(target=_report_status, args=(child,), daemon=True).start()
            os.read(0, 1)
        finally:
            _stop(child, grace)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _report_status(child: "subprocess.Popen[bytes]") -> None:
    status = child.wait()
    with contextlib.suppress(OSError):
        os.write(1, f"{status}\n".encode())


def _stop(child: "subprocess.Popen[bytes]", grace: float) -> None:
    if grace:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
