"""The compose file and what it mounts, checked without an engine."""

import copy
import json
import re
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from starlette.requests import Request

from eventfleet.cli import main
from eventfleet.http import TokenAccess, load_key
from eventfleet.runtime.settings import PREFIX, Settings
from eventfleet.web.application import OPERATIONS
from tests.deploy.compose_rules import is_fleet, problems, runs_once
from tests.deploy.install import COMPOSE
from tests.deploy.programs import found, output

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
FILE = FOLDER / "compose.yaml"
TEXT = FILE.read_text()
PROMETHEUS = FOLDER / "prometheus.yaml"
DASHBOARDS = ROOT / "deploy" / "monitoring" / "dashboards"
Config = dict[str, Any]

# What is changed in our file, and a part of what compose then says.
REFUSED = [
    ("condition: service_healthy", "condition: service_wealthy", "depends_on.kafka.condition"),
    ("    restart: unless-stopped\n", "    restarts: unless-stopped\n", "restarts"),
    ('["kafka-data:/var/lib', '["kafka-disk:/var/lib', "kafka-disk"),
    ("      kafka: {condition", "      kafkas: {condition", "kafkas"),
    ('cpus: "2"', 'cpus: "two"', "cpus"),
    ('"127.0.0.1:8080:8080"', '"127.0.0.1:8080:http"', "invalid containerPort"),
    ("<<: *fleet\n    command: [", "<<: *flee\n    command: [", "flee"),
]
# A change of the configuration that compose takes, and a part of what our rules then say.
PLANTED: list[tuple[Callable[[Config], object], str]] = [
    (lambda it: it["redis"].update(image="redis"), "redis: image 'redis' has no version tag"),
    (lambda it: it["mongodb"].update(image="mongo:latest"), "mongodb: image"),
    (lambda it: it["append"].pop("restart"), "append: no restart policy"),
    (lambda it: it["relay"].pop("healthcheck"), "relay: no health check"),
    (lambda it: it["serve"]["healthcheck"].update(test=["CMD-SHELL", "x"]), "needs a shell"),
    (lambda it: it["snapshot"].pop("deploy"), "snapshot: no limit of memory"),
    (
        lambda it: it["append"]["depends_on"]["topics"].update(condition="service_started"),
        "append: waits for topics to be service_started",
    ),
    (
        lambda it: it["topics"]["depends_on"]["kafka"].update(condition="service_started"),
        "topics: waits for kafka to be service_started",
    ),
    (lambda it: it["serve"]["ports"][0].pop("host_ip"), "serve: port 8080 is open"),
    (lambda it: it["append"].pop("pull_policy"), "append: its image may come from a registry"),
    (lambda it: it["append"].pop("init"), "append: process 1 ignores SIGTERM"),
    (lambda it: it["append"].update(read_only=False), "append: its root can be written to"),
    (lambda it: it["append"].pop("cap_drop"), "append: keeps capabilities"),
    (lambda it: it["append"].pop("security_opt"), "append: may gain privileges"),
    (lambda it: it["append"].update(user="0:0"), "append: another user"),
    (lambda it: it["kafka"].update(privileged=True), "kafka: has the rights of the host"),
    (
        lambda it: it["append"]["environment"].update(EVENTFLEET_PARTITION="4"),
        "append: EVENTFLEET_PARTITION is no setting",
    ),
    (
        lambda it: it["grafana"]["environment"].update(GF_SECURITY_ADMIN_PASSWORD="admin"),
        "grafana: GF_SECURITY_ADMIN_PASSWORD holds a secret",
    ),
    (
        lambda it: it["append"]["environment"].update(EVENTFLEET_REDIS_URL="redis://:pw@redis:1"),
        "append: EVENTFLEET_REDIS_URL holds a secret",
    ),
]


def config_of(file: Path) -> Config:
    """A compose file as compose reads it, with the services of all profiles."""
    program = found(COMPOSE.path)
    options = ("--profile", "*", "config", "--format", "json")
    config: Config = json.loads(output(program, "--file", file, *options))
    return config


@pytest.fixture(scope="module")
def config() -> Config:
    return config_of(FILE)


@pytest.fixture(scope="module")
def fleet(config: Config) -> dict[str, Config]:
    """The services that run our image's entry point."""
    services = config["services"].items()
    return {name: each for name, each in services if is_fleet(each) and not each["entrypoint"]}


def test_compose_accepts_the_file_and_our_rules_hold(config: Config) -> None:
    assert len(config["services"]) > 10
    assert problems(config) == []


def test_compose_refuses_planted_faults(tmp_path: Path) -> None:
    program = found(COMPOSE.path)
    for before, after, said in REFUSED:
        assert before in TEXT
        file = tmp_path / "compose.yaml"
        file.write_text(TEXT.replace(before, after, 1))
        words = output(program, "--file", file, "config", "--quiet", status=None)
        assert said in words, (after, words)


@pytest.mark.parametrize(("change", "said"), PLANTED)
def test_each_rule_is_checked(
    config: Config, change: Callable[[Config], object], said: str
) -> None:
    faulty = copy.deepcopy(config)
    change(faulty["services"])
    assert said in "\n".join(problems(faulty))


def test_a_teams_image_and_domains_take_the_place_of_ours(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "guides" / "compose.md").read_text()
    [written] = re.findall(r"printf '(.*)' > deploy/compose/\.env\n", guide)
    (tmp_path / ".env").write_text(written.replace(r"\n", "\n"))
    shutil.copy(FILE, tmp_path)
    append = config_of(tmp_path / FILE.name)["services"]["append"]
    assert append["image"] == "parcels:1"
    assert append["environment"][f"{PREFIX}DOMAINS"] == "parcels"


def test_every_role_runs_and_serve_does(fleet: dict[str, Config]) -> None:
    commands = {name: service["command"] for name, service in fleet.items()}
    roles = ("append", "command", "project", "relay", "snapshot")
    expected = {role: ["worker", role] for role in roles}
    assert commands == {**expected, "serve": ["serve"], "topics": ["topics", "create"]}


def parse_command(words: list[str]) -> None:
    """Parses a command line as `eventfleet` would; click's UsageError if it is wrong."""
    group: click.Command = main
    context = click.Context(group)
    while isinstance(group, click.Group):
        _, found, words = group.resolve_command(context, words)
        assert found
        group = found
    group.make_context(group.name, list(words))


def test_the_command_line_reads_each_command(fleet: dict[str, Config]) -> None:
    for service in fleet.values():
        parse_command(service["command"])
    with pytest.raises(click.UsageError):
        parse_command(["worker", "apend"])


def test_the_settings_of_each_service_fit_together(
    fleet: dict[str, Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    for service in fleet.values():
        files = [name for name in service["environment"] if name.endswith("_FILE")]
        with monkeypatch.context() as patch:
            for name, value in service["environment"].items():
                patch.setenv(name, str(FILE) if name in files else value)
            settings = Settings()
        assert settings.partitions == 4
        assert settings.kafka_brokers.partition(":")[0] == "kafka"


def test_each_mounted_path_is_in_the_repository(config: Config) -> None:
    mounts = [
        mount
        for service in config["services"].values()
        for mount in service.get("volumes", [])
        if mount["type"] == "bind"
    ]
    assert len(mounts) >= 5
    assert all(mount["read_only"] for mount in mounts)
    absent = [mount["source"] for mount in mounts if not Path(mount["source"]).exists()]
    assert absent == []


def test_redis_keeps_what_it_has(config: Config) -> None:
    command = " ".join(config["services"]["redis"]["command"])
    assert "--maxmemory-policy noeviction" in command
    assert "--appendonly yes" in command
    assert re.search(r"--maxmemory \d+mb", command)


def test_the_servers_keep_their_data_in_volumes(config: Config) -> None:
    for name in ("kafka", "mongodb", "redis", "prometheus"):
        volumes = config["services"][name]["volumes"]
        assert any(each["type"] == "volume" for each in volumes), name


def test_prometheus_scrapes_every_process_that_has_metrics(fleet: dict[str, Config]) -> None:
    found: dict[str, int] = {}
    for job in yaml.safe_load(PROMETHEUS.read_text())["scrape_configs"]:
        for query in job["dns_sd_configs"]:
            assert query["type"] == "A"
            found |= dict.fromkeys(query["names"], query["port"])
    expected = {}
    for name, service in fleet.items():
        if not runs_once(service):
            set_port = service["environment"].get(f"{PREFIX}HTTP_METRICS_PORT")
            default = Settings.model_fields["metrics_port"].default
            expected[name] = int(set_port) if name == "serve" else default
    assert found == expected


def test_promtool_accepts_the_configuration_and_refuses_a_faulty_one(tmp_path: Path) -> None:
    program = found("promtool")
    said = output(program, "check", "config", "--syntax-only", PROMETHEUS)
    assert "SUCCESS" in said
    faulty = tmp_path / "prometheus.yaml"
    faulty.write_text(PROMETHEUS.read_text().replace("type: A", "type: ADDRESS", 1))
    said = output(program, "check", "config", "--syntax-only", faulty, status=1)
    assert "ADDRESS" in said


def test_the_mounted_rules_are_those_that_prometheus_reads(config: Config) -> None:
    targets = {each["target"]: each for each in config["services"]["prometheus"]["volumes"]}
    command = config["services"]["prometheus"]["command"]
    [file] = [word.partition("=")[2] for word in command if word.startswith("--config.file=")]
    [pattern] = yaml.safe_load(PROMETHEUS.read_text())["rule_files"]
    rules = targets[str((Path(file).parent / pattern).parent)]["source"]
    assert list(Path(rules).glob(Path(pattern).name))
    assert Path(targets[file]["source"]) == PROMETHEUS


def test_grafana_finds_its_dashboards_and_they_find_prometheus(config: Config) -> None:
    provider = yaml.safe_load((FOLDER / "grafana/dashboards/eventfleet.yaml").read_text())
    targets = {each["target"]: each for each in config["services"]["grafana"]["volumes"]}
    path = provider["providers"][0]["options"]["path"]
    dashboards = list(Path(targets[path]["source"]).glob("*.json"))
    assert dashboards
    [source] = yaml.safe_load((FOLDER / "grafana/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    for dashboard in dashboards:
        uids = set(re.findall(r'"uid":\s*"(\w+)"', json.dumps(_sources(dashboard))))
        assert uids <= {source["uid"]}, dashboard.name


def _sources(dashboard: Path) -> list[Any]:
    """The data sources that a dashboard's panels and queries name, its variables aside."""
    found = []
    waiting: list[Any] = [json.loads(dashboard.read_text())]
    while waiting:
        each = waiting.pop()
        children = each.values() if isinstance(each, dict) else each
        if isinstance(each, dict) and isinstance(each.get("datasource"), dict):
            found.append(each["datasource"])
        waiting += [child for child in children if isinstance(child, dict | list)]
    return found


# The trial's token


def test_the_trials_token_does_what_the_service_offers_in_any_domain(tmp_path: Path) -> None:
    made = runpy.run_path(str(FOLDER / "trial_token.py"))
    key = tmp_path / "token-key"
    token = made["new_token"](made["load_key"](key))
    scope = {"type": "http", "headers": [(b"authorization", f"Bearer {token}".encode())]}
    grant = TokenAccess(load_key(key)).grant(Request(scope))
    rights = {each.right for each in OPERATIONS} & {"read", "write", "operate"}
    assert len(rights) == 3
    assert all(grant.allows("any", right) for right in rights)
