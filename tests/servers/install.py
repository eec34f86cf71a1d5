"""Installs the servers that tests need into the user's cache folder, and prints what it does."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eventfleet"
KAFKA = CACHE / "kafka_2.13-4.1.0"
KAFKA_CLASSES = CACHE / "kafka_2.13-4.1.0.jsa"
SECANTUS_VERSION = "0.5.3-beta.193"
SECANTUS = CACHE / "secantusd"
SECANTUSD = SECANTUS / "bin" / "secantusd-rs"
LIMIT = 1800


class Absent(Exception):
    """A server can't be installed or started here; carries the reason."""


def say(text: str) -> None:
    print(f"test servers: {text}", flush=True)


def run(*command: str, cwd: Path | None = None) -> None:
    """Run to the end; Absent with the end of its output when it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        timeout=LIMIT,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-15:])
        raise Absent(f"`{' '.join(command)}` ended with {done.returncode}:\n{end}")


def need(programs: dict[str, str]) -> None:
    """Make sure that programs are installed; as root on Debian, install the missing packages."""
    absent = [program for program in programs if not shutil.which(program)]
    if not absent:
        return
    packages = sorted({programs[program] for program in absent})
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise Absent(f"{', '.join(absent)} not found; install {', '.join(packages)}")
    say(f"installing {', '.join(packages)} by apt-get")
    run("apt-get", "update", "-qq")
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)


def kafka() -> None:
    if KAFKA.is_dir():
        need({"java": "default-jre-headless"})
        return say(f"Apache Kafka is in {KAFKA}")
    need({"java": "default-jre-headless", "mvn": "maven"})
    say(f"getting Apache Kafka by Maven into {KAFKA}")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        jars = Path(folder) / "jars"
        shutil.copy(Path(__file__).with_name("pom.xml"), folder)
        options = (f"-DoutputDirectory={jars}", "-DincludeScope=runtime")
        run("mvn", "-q", "-B", "dependency:copy-dependencies", *options, cwd=Path(folder))
        jars.rename(KAFKA)
    return None


def kafka_classes() -> None:
    """Archive the classes that Kafka loads: its start takes half as long with the archive."""
    if not KAFKA.is_dir() or KAFKA_CLASSES.exists():
        return
    try:
        run(sys.executable, "-m", "tests.servers.archive_classes")
    except Absent as reason:
        say(f"Apache Kafka starts without an archive of its classes: {reason}")


def secantusd() -> None:
    if os.environ.get("MONGO_URL"):
        return say("MongoDB is the one that MONGO_URL names")
    if SECANTUSD.exists() and SECANTUS_VERSION in _version(SECANTUSD):
        return say(f"secantusd-rs is in {SECANTUSD.parent}")
    if not shutil.which("cargo"):
        raise Absent("cargo not found; install Rust 1.85 or newer, or set MONGO_URL")
    need({"cmake": "cmake", "cc": "build-essential", "c++": "build-essential"})
    say("building secantusd-rs by cargo: about five minutes, once")
    what = ("secantus-mdb", "--version", SECANTUS_VERSION, "--locked", "--ignore-rust-version")
    run("cargo", "install", *what, "--force", "--root", str(SECANTUS))
    return None


def redis() -> None:
    need({"redis-server": "redis-server"})
    say("redis-server is installed")


def nats() -> None:
    need({"nats-server": "nats-server"})
    say("nats-server is installed")


def _version(binary: Path) -> str:
    return subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30).stdout


def main() -> int:
    """Install all; status 1 if one is missing in CI. Elsewhere the tests that need it skip."""
    parts: list[Callable[[], None]] = [kafka, kafka_classes, secantusd, redis, nats]
    absent = 0
    for part in parts:
        try:
            part()
        except (Absent, OSError, subprocess.TimeoutExpired) as error:
            absent += 1
            say(f"{part.__name__} can't be had: {error}")
    return int(absent > 0 and os.environ.get("CI") == "true")


if __name__ == "__main__":
    sys.exit(main())
