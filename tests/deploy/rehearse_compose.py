"""Runs the services of compose.yaml, and the guide's commands, without an engine.

`rehearse_compose ROOT`, in network and mount namespaces of its own: each service's name is an
address of the loopback interface. A service of ours runs with its own command, variables and rights
in the image at ROOT; the servers are those of the tests, with the file's options.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import yaml

from tests.deploy import contained
from tests.deploy.compose_rules import is_fleet, runs_once
from tests.deploy.install import COMPOSE
from tests.deploy.programs import output
from tests.servers.install import SECANTUSD
from tests.servers.kafka import JAVA

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "compose" / "compose.yaml"
PROMETHEUS = FILE.with_name("prometheus.yaml")
GUIDE = ROOT / "docs" / "guides" / "compose.md"
IMAGE_ENVIRONMENT = "IMAGE_ENVIRONMENT"
REPLICA_SET = "replicaSet=secantus"
"""MongoDB's stand-in has one name for its set."""
READY_SECONDS = 180.0
STOP_SECONDS = 60.0
FIRST_ADDRESS = 11
KEY_FOLDER = "/keys"


class Rehearsal:
    """The processes of the services, and their addresses."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.image = image
        self.folder = folder
        text = output(COMPOSE.path, "--file", FILE, "--profile", "*", "config", "--format", "json")
        self.services: dict[str, Any] = json.loads(text)["services"]
        self.image_environment: dict[str, str] = json.loads(os.environ[IMAGE_ENVIRONMENT])
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.keys = folder / "keys"

    def prepare(self) -> None:
        """Names the services' addresses, and makes what an engine would make to mount into."""
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        hosts = self.folder / "hosts"
        named = [f"127.0.0.{FIRST_ADDRESS + at} {name}" for at, name in enumerate(self.services)]
        hosts.write_text("\n".join([f"127.0.0.1 localhost {socket.gethostname()}", *named, ""]))
        subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)
        shutil.copy(hosts, self.image / "etc/hosts")
        self.keys.mkdir()
        (self.image / KEY_FOLDER.lstrip("/")).mkdir(exist_ok=True)
        (self.image / "trial_token.py").touch()

    def start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = contained.start(command, log)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def command_of(self, name: str, command: list[str] | None = None) -> list[str]:
        """How a service's process starts, or another command beside it (`exec`)."""
        service = self.services[name]
        entry = service["entrypoint"] or ["eventfleet"]
        environment = {**self.image_environment, **service["environment"]}
        url = environment["EVENTFLEET_MONGO_URL"]
        environment["EVENTFLEET_MONGO_URL"] = re.sub("replicaSet=.*", REPLICA_SET, url)
        if not runs_once(service) and not command:
            # All share a machine here: each listens at its own address.
            environment["EVENTFLEET_METRICS_HOST"] = name
        binds = {
            (self.keys if mount["type"] == "volume" else Path(mount["source"])): mount["target"]
            for mount in service.get("volumes", [])
        }
        user = service.get("user", contained.USER)
        words = command or [*entry, *service["command"]]
        return contained.command_in(self.image, words, environment, user, binds)

    def run(self, name: str, command: list[str] | None = None) -> tuple[int, str]:
        return contained.run(self.command_of(name, command))

    def wait(self, name: str, ready: Callable[[], bool]) -> None:
        """Waits until a process is ready; AssertionError with the end of its log if it is not."""
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            late = time.monotonic() > deadline or self.processes[name].poll() is not None
            assert not late, f"{name} did not get ready:\n{self.log(name)[-4000:]}"
            time.sleep(0.2)

    def stop(self, name: str) -> int:
        """Sends SIGTERM to the process with the id 1, as an engine does; its status."""
        process = self.processes.pop(name)
        [child] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        return process.wait(STOP_SECONDS)

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()


def start_servers(rehearsal: Rehearsal) -> None:
    """Kafka, MongoDB's stand-in and Redis, with what the file says of them."""
    services, folder = rehearsal.services, rehearsal.folder
    properties = folder / "server.properties"
    properties.write_text(kafka_properties(services["kafka"]["environment"], folder / "kafka"))
    cluster = services["kafka"]["environment"]["CLUSTER_ID"]
    options = ("--cluster-id", cluster, "--config", str(properties))
    output(*JAVA, "kafka.tools.StorageTool", "format", *options)
    rehearsal.start("kafka", [*JAVA, "kafka.Kafka", str(properties)])
    data = str(folder / "mongodb")
    place = ["--host", "mongodb", "--port", "27017", "--storage-path", data]
    rehearsal.start("mongodb", [str(SECANTUSD), *place, "--cache-size", "256M"])
    (folder / "redis").mkdir()
    rehearsal.start("redis", [*services["redis"]["command"], "--dir", str(folder / "redis")])
    rehearsal.wait("kafka", lambda: "Kafka Server started" in rehearsal.log("kafka"))
    rehearsal.wait(
        "redis", lambda: output("redis-cli", "-h", "redis", "ping", status=None) == "PONG\n"
    )


def kafka_properties(environment: Mapping[str, str], data: Path) -> str:
    """The properties that the image of Kafka makes of its variables."""
    found = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in environment.items()
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
    }
    found["log.dirs"] = str(data)
    return "".join(f"{name}={value}\n" for name, value in found.items())


def status_of(url: str) -> int:
    """The status of an answer; 0: there is none."""
    try:
        with urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except (URLError, TimeoutError, OSError):
        return 0


def answers(url: str) -> bool:
    return status_of(url) == 200


def start_fleet(rehearsal: Rehearsal) -> list[str]:
    """Topics and the key, then the services in the order of the file; their names."""
    for name in ("topics", "token-key"):
        status, said = rehearsal.run(name)
        assert status == 0, f"{name} ended with {status}:\n{said}"
    names = [
        name
        for name, service in rehearsal.services.items()
        if is_fleet(service) and not runs_once(service)
    ]
    for name in names:
        rehearsal.start(name, rehearsal.command_of(name))
    for name in names:
        port = 8080 if name == "serve" else 6066
        rehearsal.wait(name, lambda: answers(f"http://{name}:{port}/ready"))  # noqa: B023
    return names


def check_health(rehearsal: Rehearsal, names: list[str]) -> None:
    """The health check of each service passes within the tries that an engine gives it."""
    for name in names:
        health = rehearsal.services[name]["healthcheck"]
        for _ in range(health["retries"]):
            status, said = rehearsal.run(name, health["test"][1:])
            if status == 0:
                break
        assert status == 0, f"the health check of {name}:\n{said}"


def guide_commands() -> str:
    """The commands of the guide's section that sends a command."""
    section = GUIDE.read_text().split("\n## ")[1]
    assert section.startswith("Send a command")
    return "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))


def run_guide(rehearsal: Rehearsal) -> str:
    """Runs the guide's commands in a shell whose `docker` is this program; what they printed."""
    programs = rehearsal.folder / "programs"
    programs.mkdir()
    stand_in = programs / "docker"
    stand_in.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m tests.deploy.rehearse_compose '
        f'"{rehearsal.image}" "{rehearsal.folder}" "$@"\n'
    )
    stand_in.chmod(0o755)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", guide_commands()],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def docker(rehearsal: Rehearsal, words: list[str]) -> int:
    """What `docker compose -f FILE exec SERVICE COMMAND` or `run SERVICE` would do."""
    assert words[:3] == ["compose", "-f", str(FILE.relative_to(ROOT))], words
    verb, rest = words[3], [word for word in words[4:] if word not in ("--rm", "-T")]
    assert verb in ("exec", "run"), words
    status, said = rehearsal.run(rest[0], rest[1:] if verb == "exec" else None)
    print(said, end="")
    return status


def check_prometheus(rehearsal: Rehearsal, names: list[str]) -> int:
    """Prometheus with the file's rules scrapes every process; names stand in for the DNS query."""
    config = yaml.safe_load(PROMETHEUS.read_text())
    config["rule_files"] = [str(ROOT / "deploy/monitoring/rules/*.yaml")]
    for job in config["scrape_configs"]:
        [query] = job.pop("dns_sd_configs")
        job["static_configs"] = [
            {"targets": [f"{each}:{query['port']}" for each in query["names"]]}
        ]
        job["scrape_interval"] = "1s"
    file = rehearsal.folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    data = f"--storage.tsdb.path={rehearsal.folder / 'prometheus'}"
    listen = "--web.listen-address=prometheus:9090"
    rehearsal.start("prometheus", ["prometheus", f"--config.file={file}", data, listen])
    rehearsal.wait("prometheus", lambda: answers("http://prometheus:9090/-/ready"))

    def scraped() -> list[str]:
        found = fetch("/api/v1/targets")["activeTargets"]
        return sorted(
            each["discoveredLabels"]["__address__"].partition(":")[0]
            for each in found
            if each["health"] == "up"
        )

    rehearsal.wait("prometheus", lambda: scraped() == sorted(names))
    rules = [rule for group in fetch("/api/v1/rules")["groups"] for rule in group["rules"]]
    broken = [rule for rule in rules if rule.get("lastError")]
    assert not broken, broken
    return len(rules)


def fetch(path: str) -> dict[str, Any]:
    """The data of an answer of Prometheus."""
    with urlopen(f"http://prometheus:9090{path}", timeout=5) as answer:
        data: dict[str, Any] = json.load(answer)["data"]
    return data


def rehearse(rehearsal: Rehearsal) -> None:
    rehearsal.prepare()
    start_servers(rehearsal)
    names = start_fleet(rehearsal)
    print(f"ok       topics and key were made; {', '.join(names)} are ready", flush=True)
    check_health(rehearsal, names)
    print("ok       each health check passes", flush=True)
    said = run_guide(rehearsal)
    assert said.count("accepted") >= 2, said
    print("ok       the guide's commands, as they stand", flush=True)
    status = status_of("http://127.0.0.1:8080/domains")
    assert status == 401, f"without a token the service answers {status}"
    print("ok       no answer without a token", flush=True)
    rules = check_prometheus(rehearsal, names)
    print(f"ok       Prometheus scrapes all {len(names)} and evaluates {rules} rules", flush=True)
    for name in names:
        status = rehearsal.stop(name)
        assert status == 0, f"{name} ended with {status}:\n{rehearsal.log(name)[-4000:]}"
    print("ok       SIGTERM ends each with status 0", flush=True)


def main(image: str, *words: str) -> int:
    if words:
        return docker(Rehearsal(Path(image), Path(words[0])), list(words[1:]))
    with tempfile.TemporaryDirectory(prefix="eventfleet-compose-") as folder:
        rehearsal = Rehearsal(Path(image), Path(folder))
        try:
            rehearse(rehearsal)
        except AssertionError as error:
            print(f"FAILED   the rehearsal of compose.yaml: {error}", flush=True)
            return 1
        finally:
            rehearsal.end()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
