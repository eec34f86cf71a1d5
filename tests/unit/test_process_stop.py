"""The stop of a process: by a signal at any time of its life, within bounds."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

SLOW_THREAD = """
    import threading, time
    threading.Thread(target=time.sleep, args=(600,)).start()
"""


def run(work: str, prelude: str = "") -> "subprocess.Popen[str]":
    """A process that runs work until a signal; it says when it runs."""
    code = textwrap.dedent(prelude) + textwrap.dedent(
        """
        import asyncio
        from eventfleet.cli.process import run_process
        from eventfleet.runtime import process_stop
        process_stop.STOP_SECONDS = 1.0

        async def work(stop):
            print("runs", flush=True)
            WORK

        run_process(process_stop.run_until_stopped(work))
        """
    ).replace("WORK", work)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "runs\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "work",
    [
        "await asyncio.sleep(600)",
        "stop.heeded = True; await stop.wait()",
        "stop.heeded = True; await asyncio.sleep(600)",
        "stop.heeded = True; await stop.wait(); import time; time.sleep(600)",
    ],
    ids=["starts", "ends by itself", "hangs", "blocks"],
)
@pytest.mark.parametrize("prelude", ["", SLOW_THREAD], ids=["", "slow thread"])
def test_a_process_that_is_asked_to_stop_ends_with_status_0(
    number: signal.Signals, work: str, prelude: str
) -> None:
    process = run(work, prelude)
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")


def test_an_error_is_raised_and_ends_the_process_with_its_threads() -> None:
    thread = "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()"
    process = run(f"{thread}; raise LookupError('a bug')")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.endswith("LookupError: a bug\n")
