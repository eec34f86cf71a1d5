"""The wheel, installed beside a team's packages of the same names as rooms of ours."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen
from zipfile import ZipFile

import pytest
from pymongo import MongoClient

from tests.acceptance.fleet import ROOT, TIMEOUT_SECONDS
from tests.acceptance.team_project import write_project

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
OFFLINE = ("--no-deps", "--no-index")
PRINT_SITE = "import sysconfig; print(sysconfig.get_path('purelib'))"
MISTAKE = """from domains.parcels import Parcel, parcels
from eventfleet.testing import given

parcel: Parcel = parcels.state(weight=7)
given(parcels).when("Post")
count: int = parcels.name
"""
READY_SECONDS = 120.0


def run(*command: str | Path, folder: Path, status: int = 0) -> str:
    """The output of a program; it must end with this status."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    """Without our settings, and without a path to the checkout."""
    ours = ("EVENTFLEET_", "PYTHONPATH", "PORT")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the checkout, as it would be released."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()]
    ignore = shutil.ignore_patterns(".git", *ignored)
    copy = shutil.copytree(ROOT, folder / "checkout", symlinks=True, ignore=ignore)
    build = ("wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", folder, copy)
    run(*PIP, *build, folder=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment in which the wheel is installed.

    Its dependencies are those of the environment that runs the tests: a `.pth` file names their
    folder, whose own `.pth` files, the editable install among them, are not read.
    """
    folder = tmp_path_factory.mktemp("environment") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder.parent)
    python = folder / "bin" / "python"
    run(*PIP, "--python", python, "install", *OFFLINE, wheel, folder=folder)
    site = run(python, "-c", PRINT_SITE, folder=folder)
    dependencies = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    Path(site.strip(), "dependencies.pth").write_text("\n".join(sorted(dependencies)))
    return python.parent


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"))


def test_the_wheel_holds_the_package_alone_and_whole(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    [info] = tops - {"eventfleet"}
    assert re.fullmatch(r"eventfleet-[0-9.]+\.dist-info", info)
    there = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "eventfleet").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "eventfleet/py.typed" in there
    assert {name for name in names if not name.startswith(info)} == there


def test_a_teams_packages_and_ours_are_imported_in_one_process(
    scripts: Path, project: Path
) -> None:
    """`program.py` asserts that each module of the team's is its own."""
    file, modules = run(scripts / "python", "program.py", folder=project).splitlines()
    assert Path(file).is_relative_to(scripts.parent), "the checkout, not the wheel, was imported"
    assert {"domains", "protocols", "service", "stores", "topics", "workers"} <= {*modules.split()}
    assert "snapshot_rules" not in modules.split()


def test_documents_of_the_wheel_need_mongodb_alone(
    scripts: Path, mongo_url: str, tmp_path: Path
) -> None:
    """The users example runs, and loads no client of Kafka, Redis or NATS on the way."""
    for file in (ROOT / "examples" / "users").glob("*.py"):
        shutil.copy(file, tmp_path)
    look = f"""
import runpy, sys
sys.argv = ["main.py", {mongo_url!r}]
sys.path.insert(0, "")
runpy.run_path("main.py", run_name="__main__")
import eventfleet
print(eventfleet.__file__)
print({{"faust", "mode", "aiokafka", "redis", "nats"}} & set(sys.modules))
"""
    *said, file, loaded = run(scripts / "python", "-c", look, folder=tmp_path).splitlines()
    assert said[-1] == "John Doe <john.doe@example.com>, version 2"
    assert Path(file).is_relative_to(scripts.parent), "the checkout, not the wheel, was imported"
    assert loaded == "set()"
    with MongoClient(mongo_url) as client:
        client.drop_database("mydb")


def test_the_wheel_requires_what_documents_load(scripts: Path, tmp_path: Path) -> None:
    """So that `pip install` brings it, also into an environment that is empty."""
    look = """
import sys
import eventfleet.documents
from importlib.metadata import distribution, packages_distributions
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical

required, waiting = set(), ["eventfleet"]
while waiting:
    name = canonical(waiting.pop())
    if name not in required:
        required.add(name)
        found = map(Requirement, distribution(name).requires or ())
        needed = [each for each in found if not each.marker or each.marker.evaluate({"extra": ""})]
        waiting += [each.name for each in needed]
of_module = packages_distributions()
tops = {name.partition(".")[0] for name in sys.modules} & set(of_module)
loaded = {canonical(name) for top in tops for name in of_module[top]} - {"packaging"}
print(len(loaded), *sorted(loaded - required))
"""
    count, *missing = run(scripts / "python", "-c", look, folder=tmp_path).split()
    assert missing == []
    assert int(count) > 4


def mypy(scripts: Path, folder: Path, *files: Path, status: int = 0) -> str:
    """The output of mypy for the files; its cache stays for the next run."""
    options = ("--strict", "--no-error-summary", "--python-executable", scripts / "python")
    return run(sys.executable, "-m", "mypy", *options, *files, folder=folder, status=status)


def test_mypy_accepts_the_teams_project(scripts: Path, project: Path) -> None:
    assert mypy(scripts, project, project) == ""


def test_mypy_sees_our_types(scripts: Path, project: Path, tmp_path: Path) -> None:
    """Without `py.typed` everything of ours would be Any."""
    mistake = tmp_path / "mistake.py"
    mistake.write_text(MISTAKE)
    printed = mypy(scripts, project, mistake, status=1)
    lines = {int(line) for line in re.findall(r"mistake\.py:(\d+): error: ", printed)}
    assert lines == {4, 5, 6}, printed


@contextmanager
def fleet(scripts: Path, project: Path) -> Iterator[str]:
    """`eventfleet up` of the team's domain; the address of its domains."""
    log = project / "up.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [scripts / "eventfleet", "up"],
            env=environment() | {"EVENTFLEET_DOMAINS": "domains.parcels"},
            cwd=project,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield address(process, log)
            process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT_SECONDS) == 0, log.read_text()
        finally:
            process.kill()


def address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while not (found := re.search(r"(http://\S+/domains)\b.*\n", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return found[1]


def answer(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"content-type": "application/json"})
    with urlopen(request, timeout=TIMEOUT_SECONDS) as found:
        return json.load(found)


def test_a_teams_domain_goes_up_and_answers(scripts: Path, project: Path) -> None:
    with fleet(scripts, project) as url:
        assert [each["name"] for each in answer(url)["domains"]] == ["parcels"]
        parcel = f"{url}/parcels/parcel-1"
        assert answer(f"{parcel}/commands/Post", {"grams": 7})["outcome"] == "accepted"
        sent = answer(f"{parcel}/commands/Scan?wait=snapshotted", {"place": "north"})
        assert (sent["outcome"], sent["stage"]) == ("accepted", "snapshotted")
        state = {"status": "on its way", "grams": 7, "places": ["north"]}
        assert answer(f"{parcel}/state")["state"] == state
        assert answer(f"{parcel}/snapshot")["state"] == state
