"""Rooms are imported as parts of eventfleet: ruff refuses others, and the test session fails."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.module_guard import FORMER_ROOMS, ROOM_LINKS

ROOT = Path(__file__).parents[2]
NAMES = sorted(ROOM_LINKS | FORMER_ROOMS)
CONFTEST = """
from tests.module_guard import ModuleGuard


def pytest_configure(config):
    config.pluginmanager.register(ModuleGuard())
"""
TESTS = """
def test_that_imports():
    import {}


def test_another():
    pass
"""


def session(folder: Path, module: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """A session of two tests that pass, of which one imports the module."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_imports.py").write_text(TESTS.format(module))
    (folder / f"{module}.py").touch()
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("options", [(), ("-pxdist", "-n1")], ids=["alone", "xdist"])
def test_a_session_that_imported_a_room_past_the_package_fails(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    done = session(tmp_path, "topics", *options)
    assert "2 passed" in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    _, _, summary = done.stdout.partition("imported past the package eventfleet")
    assert summary.splitlines()[1] == "topics", done.stdout


def test_a_session_that_imported_another_module_passes(tmp_path: Path) -> None:
    done = session(tmp_path, "subjects")
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout


def ruff(*options: str, text: str = "") -> str:
    program = Path(sysconfig.get_path("scripts"), "ruff")
    command = [str(program), "check", "--no-cache", *options]
    done = subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize("folder", ["eventfleet", "tests", "benchmarks", "examples"])
def test_ruff_refuses_rooms_past_the_package(folder: str) -> None:
    text = "".join(f"import {name}\nfrom {name}.part import Part\n" for name in NAMES)
    options = ("--select=TID251", "--output-format=concise")
    printed = ruff(*options, f"--stdin-filename={folder}/any.py", "-", text=text)
    assert sum("TID251" in line for line in printed.splitlines()) == 2 * len(NAMES), printed


def test_the_links_lead_into_the_package() -> None:
    for name in ROOM_LINKS:
        assert (ROOT / name).resolve() == ROOT / "eventfleet" / name


def test_ruff_reads_a_file_once() -> None:
    """By its path in the package, not by a link's."""
    files = [Path(line).relative_to(ROOT) for line in ruff("--show-files", ".").splitlines()]
    assert Path("eventfleet/topics/codec.py") in files
    assert not ROOM_LINKS & {file.parts[0] for file in files}
