"""A fleet of two domains in processes of their own, each at a fixed address for its metrics."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

from tests.acceptance.kafka_by_hand import wait_for
from tests.servers.server import free_port

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "eventfleet.cli")
STOP_SECONDS = 60.0
PARKED_AGGREGATES = 2
"""So few that a fault of the code soon stops partitions, too."""
PARTITIONS = 4
PARCELS = '''
"""Parcels, whose evolve raises for one place while a file says so."""

from pathlib import Path

from msgspec.structs import replace

from eventfleet import START, Command, Domain, Emits, Event, Route, State, after, every


class Posted(Event):
    grams: int


class Scanned(Event):
    place: str


class Delivered(Event):
    pass


class Parcel(State):
    grams: int = 0
    place: str = ""
    delivered: bool = False


def evolve(parcel: Parcel, event: Event) -> Parcel:
    match event:
        case Posted(grams=grams):
            return replace(parcel, grams=grams)
        case Scanned(place=place):
            if place == "nowhere" and Path("evolve-raises").exists():
                raise LookupError("no such place")
            return replace(parcel, place=place)
        case Delivered():
            return replace(parcel, delivered=True)
    raise TypeError(type(event).__name__)


class Post(Command):
    grams: int


class Scan(Command):
    place: str


class Deliver(Command):
    pass


parcels = Domain(
    "parcels",
    state=Parcel,
    evolve=evolve,
    events=[Posted, Scanned, Delivered],
    commands=[
        Emits(Post, Posted, after={START}),
        Emits(Scan, Scanned, after={Posted, Scanned}),
        Emits(Deliver, Delivered, after={Scanned}),
    ],
    snapshot=every(3) | after(minutes=1),
    routes=[Route("parcels.delivered", types=[Delivered])],
)
'''


class FleetProcess:
    """A worker or service; it may be killed and started again at its address."""

    def __init__(self, name: str, arguments: Sequence[str], fleet: "MonitoredFleet") -> None:
        self.name, self._arguments, self._fleet = name, arguments, fleet
        self.port = free_port()
        self.log = fleet.folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        port = "HTTP_METRICS_PORT" if "serve" in self._arguments else "METRICS_PORT"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*PROGRAM, *self._arguments],
                env=self._fleet.environment | {f"EVENTFLEET_{port}": str(self.port)},
                cwd=self._fleet.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def is_ready(self) -> bool:
        assert self._process is not None
        status = self._process.poll()
        assert status is None, f"{self.name} ended with {status}:\n{self.log.read_text()[-3000:]}"
        try:
            with urlopen(f"http://{self.address}/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def restart_if_ended(self) -> bool:
        """Start it again if it has ended by itself, as a cluster would."""
        if self._process is None or self._process.poll() is None:
            return False
        self.start()
        return True

    def kill(self) -> None:
        """End it with SIGKILL; it stays away until `start`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(STOP_SECONDS)
            self._process = None

    def stop(self) -> None:
        """End it with SIGTERM."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STOP_SECONDS)
            self._process = None


class MonitoredFleet:
    """The domains `parcels` (asynchronous) and `bank` (synchronous) on servers of their own."""

    def __init__(self, kafka: str, mongo_url: str, redis_url: str, folder: Path) -> None:
        self.folder = folder
        (folder / "parcels.py").write_text(PARCELS.lstrip())
        self.http_port = free_port()
        settings = {
            "DOMAINS": "parcels,eventfleet.domains.bank",
            "KAFKA_BROKERS": kafka,
            "MONGO_URL": mongo_url,
            "MONGO_DATABASE": "monitored",
            "MONGO_TIMEOUT": "5",
            "REDIS_URL": redis_url,
            "PARTITIONS": str(PARTITIONS),
            "PARKED_AGGREGATES": str(PARKED_AGGREGATES),
            "HTTP_PORT": str(self.http_port),
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("EVENTFLEET_")}
        self.environment = inherited | {f"EVENTFLEET_{k}": v for k, v in settings.items()}
        self.environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])
        places = {
            "append-1": ("worker", "append"),
            "append-2": ("worker", "append"),
            "snapshot-1": ("worker", "snapshot"),
            "relay-1": ("worker", "relay"),
            "command-1": ("worker", "command"),
            "http-1": ("serve",),
        }
        self.processes = {name: FleetProcess(name, a, self) for name, a in places.items()}

    def __enter__(self) -> Self:
        self.run("topics", "create")
        try:
            for process in self.processes.values():
                process.start()
            wait_for(self.is_ready, "the fleet to be ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()

    def is_ready(self) -> bool:
        return all(process.is_ready() for process in self.processes.values())

    def restart_ended(self) -> list[str]:
        """Start again what has ended by itself; the names."""
        return [name for name, each in self.processes.items() if each.restart_if_ended()]

    def targets(self) -> dict[str, list[str]]:
        """The addresses of metrics, by job."""
        workers = [p.address for name, p in self.processes.items() if name != "http-1"]
        return {"workers": workers, "http": [self.processes["http-1"].address]}

    def run(self, *arguments: str, status: int = 0) -> str:
        """The output of a command; it must end with this status."""
        done = subprocess.run(
            [*PROGRAM, *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=STOP_SECONDS * 2,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def audit(self) -> list[Any]:
        """The audit's reports."""
        done = subprocess.run(
            [*PROGRAM, "audit", "--json"],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=STOP_SECONDS * 2,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]
