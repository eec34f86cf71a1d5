"""Starts commands of the program in processes that are forked from one that has imported it: an
import takes longer than most commands do."""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

PROGRAM = "eventfleet.cli"
COMMAND = [sys.executable, "-m", PROGRAM]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.imported_program"])


class ForkedProgram:
    """A process, with what tests use of subprocess.Popen."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        *outputs: Path,
        module: str = PROGRAM,
    ) -> None:
        """`outputs`: the files for its output and for its errors, or one for both; `module`: of a
        test's own program."""
        self.args = [sys.executable, "-m", module, *arguments]
        for path in outputs:
            path.write_bytes(b"")
        found = [str(each) for each in outputs]
        given = module, [*arguments], {**environment}, str(folder), found[0], found[-1]
        self._process = _context.Process(target=_run, args=given, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (status := self._process.exitcode) is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Program = ForkedProgram | subprocess.Popen[bytes]


def start_program(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, *outputs: Path
) -> Program:
    """Start a command; see ForkedProgram. One that a sitecustomize changes is started anew."""
    if not _has_sitecustomize(environment):
        return ForkedProgram(arguments, environment, folder, *outputs)
    with outputs[0].open("wb") as output, outputs[-1].open("ab") as errors:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors if len(outputs) > 1 else subprocess.STDOUT,
        )


def run_program(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, timeout: float
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    with TemporaryDirectory() as files:
        outputs = Path(files, "output"), Path(files, "errors")
        program = start_program(arguments, environment, folder, *outputs)
        try:
            status = program.wait(timeout)
        finally:
            program.kill()
        said = [path.read_text(errors="replace") for path in outputs]
        return subprocess.CompletedProcess(program.args, status, *said)


def _has_sitecustomize(environment: Mapping[str, str]) -> bool:
    return any(Path(each, "sitecustomize.py").exists() for each in _python_path(environment))


def _python_path(environment: Mapping[str, str]) -> list[str]:
    return [each for each in environment.get("PYTHONPATH", "").split(os.pathsep) if each]


def _run(
    module: str,
    arguments: list[str],
    environment: dict[str, str],
    folder: str,
    output: str,
    errors: str,
) -> None:
    """Be a new process of a program."""
    for path, number in ((output, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.path[:0] = [folder, *_python_path(environment)]
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
