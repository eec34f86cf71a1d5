"""Builds the image and a team's image, runs them, and runs the services of compose.yaml in them.

`make check-image`. Status 1 if something is not as it should be, or can't be had.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.deploy import contained, image_builder
from tests.deploy.image_builder import ROOT
from tests.deploy.rehearse_compose import IMAGE_ENVIRONMENT
from tests.servers.install import Absent

CONTAINERFILE = ROOT / "deploy" / "image" / "Containerfile"
TEAM = ROOT / "examples" / "team_image"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
TAG = f"localhost/eventfleet:{VERSION}"
TEAM_TAG = "localhost/parcels:1"
ABSENT_PACKAGES = ("setuptools", "pip", "pytest")
MEGABYTE = 1_000_000


class Image:
    """An image's files, and the commands that run in them."""

    def __init__(self, tag: str, root: Path) -> None:
        self.root = root
        self.config = image_builder.inspect(tag)
        self.environment = dict(each.split("=", 1) for each in self.config["Env"])

    def run(self, *command: str, **environment: str) -> tuple[int, str]:
        """The status and the output of a command in the image."""
        variables = {**self.environment, **environment}
        user = self.config["User"]
        return contained.run(contained.command_in(self.root, command, variables, user))

    def expect(self, status: int, *command: str, **environment: str) -> str:
        """The output of a command, which must end with this status and without a traceback."""
        ended, output = self.run(*command, **environment)
        assert ended == status, f"{command} ended with {ended}, not {status}:\n{output}"
        assert "Traceback" not in output, output
        return output


def check_configuration(image: Image) -> str:
    config = image.config
    assert config["User"] == contained.USER
    assert config["Entrypoint"] == ["eventfleet"]
    assert config["Healthcheck"]["Test"] == ["CMD", "eventfleet", "health"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Labels"]["org.opencontainers.image.version"] == VERSION
    assert config["Labels"]["org.opencontainers.image.base.digest"].startswith("sha256:")
    return f"user {config['User']}, entry point, health check, stop signal and labels"


def check_files(image: Image) -> str:
    site = image.root / "opt/eventfleet/lib/python3.11/site-packages"
    names = [path.name.lower() for path in site.iterdir()]
    assert "eventfleet" in names
    assert not [name for name in names if name.startswith(ABSENT_PACKAGES)], names
    assert (site / "eventfleet" / "__pycache__").is_dir()
    assert not (image.root / "build").exists()
    writable = [path for path in (image.root / "opt").rglob("*") if _is_writable(path)]
    assert not writable, writable
    return "no tools that build; nothing that the user may write to"


def _is_writable(path: Path) -> bool:
    found = path.lstat()
    return not path.is_symlink() and (found.st_uid != 0 or bool(found.st_mode & 0o6022))


def check_packages(image: Image) -> str:
    """Every installed package is of the version that the lock names."""
    code = (
        "import json; from importlib.metadata import distributions as all; "
        "print(json.dumps({each.name: each.version for each in all()}))"
    )
    installed = json.loads(image.expect(0, "python", "-c", code))
    lock = (ROOT / "requirements.lock").read_text()
    locked = dict(line.split()[0].split("==") for line in lock.splitlines() if "==" in line)
    assert installed.pop("eventfleet") == VERSION
    names = {re.sub("[_.]", "-", name.lower()): each for name, each in installed.items()}
    assert len(names) > 50
    assert names.items() <= locked.items(), names.items() - locked.items()
    return f"{len(names)} packages, each of its locked version"


def check_commands(image: Image) -> str:
    assert image.expect(0, "eventfleet", "--version") == f"eventfleet {VERSION}\n"
    settings = json.loads(image.expect(0, "eventfleet", "settings", "--json"))
    [host] = [each for each in settings if each["variable"] == "EVENTFLEET_METRICS_HOST"]
    assert (host["value"], host["source"]) == ("0.0.0.0", "environment")
    return "eventfleet --version and settings"


def check_user(image: Image) -> str:
    assert image.expect(0, "id", "--user").strip() == "10001"
    for path in ("/x", "/tmp/x", "/domains/x", "/opt/eventfleet/x"):
        assert "Read-only file system" in image.expect(1, "touch", path)
    status = image.expect(0, "cat", "/proc/self/status")
    assert "CapEff:\t0000000000000000" in status
    return "user 10001 without capabilities; no path can be written to"


def check_refusals(image: Image) -> str:
    assert "EVENTFLEET_DOMAINS is not set" in image.expect(2, "eventfleet", "worker", "append")
    orders = {"EVENTFLEET_DOMAINS": "eventfleet.domains.orders"}
    closed = {**orders, "EVENTFLEET_KAFKA_BROKERS": "127.0.0.1:9"}
    said = image.expect(1, "eventfleet", "worker", "append", **closed)
    assert "Kafka does not answer at 127.0.0.1:9" in said
    assert "EVENTFLEET_TOKEN_KEY_FILE" in image.expect(1, "eventfleet", "serve", **orders)
    said = image.expect(1, "eventfleet", "health", EVENTFLEET_MONGO_URL="mongodb://127.0.0.1:9/")
    assert said.count("FAILED") >= 1
    return "without domains, servers or a token key each command says what is missing"


def check_team_image(image: Image) -> str:
    image_builder.build(TEAM_TAG, TEAM / "Containerfile", TEAM, {"EVENTFLEET": TAG})
    with image_builder.mounted(TEAM_TAG) as root:
        team = Image(TEAM_TAG, root)
        assert team.config["User"] == contained.USER
        code = "from eventfleet.runtime.connections import *; from eventfleet.commands import *; "
        code += "print(*select_domains(load_settings()))"
        assert team.expect(0, "python", "-c", code) == "parcels\n"
    return "examples/team_image finds its domain"


def check_hashes(image: Image) -> str:
    """A package whose hash is another than the lock's ends the build."""
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, context)
        shutil.copytree(ROOT / "eventfleet", context / "eventfleet")
        lock = (ROOT / "requirements.lock").read_text()
        _, _, rest = lock.partition("aiosignal==")
        block = rest[: rest.index("\nannotated-types")]
        other = re.sub(r"sha256:(.)(\w+)", r"sha256:\2\1", block)
        (context / "requirements.lock").write_text(lock.replace(block, other))
        base = image_builder.base_arguments()
        said = image_builder.build("localhost/no:1", CONTAINERFILE, context, base, status=None)
        assert "DO NOT MATCH THE HASHES" in said, said[-2000:]
    return "a package with another hash than the lock's is refused"


CHECKS: list[Callable[[Image], str]] = [
    check_configuration,
    check_files,
    check_packages,
    check_commands,
    check_user,
    check_refusals,
    check_team_image,
    check_hashes,
]


def size(root: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.lstat().st_size for path in root.rglob("*") if not path.is_symlink())


def main() -> int:
    try:
        image_builder.prepare()
    except Absent as reason:
        print(f"check-image: {reason}")
        return 1
    image_builder.build(TAG, CONTAINERFILE, ROOT, image_builder.base_arguments())
    with image_builder.mounted(TAG) as root:
        total, ours = size(root) // MEGABYTE, size(root / "opt/eventfleet") // MEGABYTE
        print(f"built    {total} MB, of them {ours} MB eventfleet and its packages", flush=True)
        image = Image(TAG, root)
        failed = sum(not _passes(check, image) for check in CHECKS)
        failed += rehearse_compose(image)
    return int(failed > 0)


def rehearse_compose(image: Image) -> int:
    """Runs the services of compose.yaml in the image, in namespaces that end with them."""
    environment = {**os.environ, IMAGE_ENVIRONMENT: json.dumps(image.environment)}
    namespaces = ("--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")
    command = (sys.executable, "-m", "tests.deploy.rehearse_compose", str(image.root))
    done = subprocess.run(["unshare", *namespaces, *command], cwd=ROOT, env=environment)
    return done.returncode


def _passes(check: Callable[[Image], Any], image: Image) -> bool:
    try:
        print(f"ok       {check(image)}", flush=True)
    except AssertionError as error:
        line = traceback.extract_tb(error.__traceback__)[-1].line
        print(f"FAILED   {check.__name__}: {error or line}", flush=True)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
