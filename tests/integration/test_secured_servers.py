"""Servers that ask for TLS, credentials and rights: what a wrong setting and a missing right tell.

All tests share one set of servers. Commands run in this process where they end by themselves.
"""

import asyncio
import gc
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from threading import Timer
from typing import NamedTuple
from uuid import uuid4

import httpx
import pytest
from click.testing import CliRunner, Result

from eventfleet.cli import main
from eventfleet.runtime import process_stop
from eventfleet.runtime.connections import create_missing_topics
from eventfleet.runtime.settings import PREFIX, Settings
from eventfleet.stores.contracts import (
    MarkOwner,
    MarkRequest,
    MarkStatus,
    Note,
    Notice,
    Stage,
    StoredHead,
)
from eventfleet.stores.errors import (
    AccessFault,
    AccessRefused,
    Misconfigured,
    ServerUnavailable,
    TopicRefused,
)
from eventfleet.stores.kafka.admin import Admin
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import Producer
from eventfleet.stores.kafka.reader import Reader
from eventfleet.stores.kafka.transactional_writer import TransactionalWriter
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.mongo import open_stores
from eventfleet.stores.redis import RedisMarkers, RedisNotices
from eventfleet.topics.record import ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec
from eventfleet.workers.app_runner import role_app, run_apps
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.worker_log import KafkaLog
from tests.acceptance.fleet import Worker
from tests.acceptance.http_service import sent, serving
from tests.acceptance.kafka_by_hand import KafkaByHand, NewRecord, wait_for
from tests.integration.copy_role import CopyAgent, Mood, copying
from tests.integration.secured_fleet import (
    DATABASE,
    DOMAIN,
    PASSWORD,
    ROUTE,
    WORKERS,
    WRONG,
    SecuredServers,
)
from tests.servers.kafka_acls import LITERAL, PREFIXED
from tests.servers.server import free_port

PREFIX_OF_TOPICS = f"{DOMAIN}."
BOUND_SECONDS = 30


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredServers]:
    """The servers, with the domain's topics, which the user `topics` has made."""
    with ExitStack() as stack:
        secured = SecuredServers(tmp_path_factory.mktemp("secured"), stack)
        done = invoke(secured, secured.environment("topics"), "topics", "create")
        assert done.exit_code == 0, done.output
        yield secured


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """What a process of eventfleet sets for itself is undone."""
    thresholds, level = gc.get_threshold(), logging.getLogger("eventfleet").level
    yield
    asyncio.set_event_loop_policy(None)
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    logging.getLogger("eventfleet").setLevel(level)


def invoke(servers: SecuredServers, environment: dict[str, str], *arguments: str) -> Result:
    """Run a command; one that does not end by itself is stopped, and ends with status 0.

    It may not end this process, as a stopped command would after a while.
    """
    stop = Timer(BOUND_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
    stop.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(servers.folder)
            patch.setattr(process_stop, "end_process", lambda status: None)
            return CliRunner().invoke(main, arguments, env=environment)
    finally:
        stop.cancel()


# Wrong settings


class Fault(NamedTuple):
    """Wrong settings, and what the error must name: the server's address and the reason."""

    settings: dict[str, str]
    address: str
    reason: str
    variable: str


def of_kafka(servers: SecuredServers) -> dict[str, Fault]:
    at, refused = servers.kafka.secured, "user name and password are not accepted"
    expired, elsewhere = servers.expired["Kafka"], servers.elsewhere["Kafka"]
    tls = {"KAFKA_SECURITY": "SSL"}
    return {
        "password": Fault({"KAFKA_PASSWORD": WRONG}, at, refused, "KAFKA_PASSWORD"),
        "user": Fault({"KAFKA_USERNAME": "nobody"}, at, refused, "KAFKA_USERNAME"),
        "CA": Fault(
            {"KAFKA_CA_FILE": servers.other_ca},
            at,
            f"certificate of {at} is not accepted",
            "KAFKA_CA_FILE",
        ),
        "plain text": Fault(
            {"KAFKA_SECURITY": "PLAINTEXT"}, at, "hangs up on PLAINTEXT", "KAFKA_SECURITY"
        ),
        "TLS": Fault(
            {"KAFKA_BROKERS": servers.kafka.address, **tls},
            servers.kafka.address,
            "SSL",
            "KAFKA_SECURITY",
        ),
        "expired": Fault({"KAFKA_BROKERS": expired, **tls}, expired, "expired", "KAFKA_CA_FILE"),
        "host": Fault({"KAFKA_BROKERS": elsewhere, **tls}, elsewhere, "mismatch", "KAFKA_BROKERS"),
        "mechanism": Fault(
            {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"}, at, "SCRAM-SHA-256", "KAFKA_SASL_MECHANISM"
        ),
    }


def of_url(servers: SecuredServers, name: str) -> dict[str, Fault]:
    """The faults of Redis and MongoDB, whose URLs hold all."""
    make = servers.redis_url if name == "Redis" else servers.mongo_url
    variable = "REDIS_URL" if name == "Redis" else "MONGO_URL"
    plain = servers.redis.address if name == "Redis" else servers.mongo.address
    secured = servers.redis_tls if name == "Redis" else servers.mongo_tls
    expired, elsewhere = servers.expired[name], servers.elsewhere[name]

    def fault(url: str, address: str, reason: str) -> Fault:
        return Fault({variable: url}, address, reason, variable)

    refused, untrusted = "user name and password are not accepted", "certificate is not accepted"
    return {
        "password": fault(make("command", password=WRONG), secured, refused),
        "user": fault(make("nobody"), secured, refused),
        "CA": fault(make("command", ca=servers.other_ca), secured, untrusted),
        "plain text": fault(make("command", secured, tls=False), secured, "compare its listener"),
        "TLS": fault(make("command", plain), plain, ""),
        "expired": fault(make("command", expired), expired, "expired"),
        "host": fault(make("command", elsewhere), elsewhere, "mismatch"),
    }


FAULTS: dict[str, Callable[[SecuredServers], dict[str, Fault]]] = {
    "Kafka": of_kafka,
    "MongoDB": lambda servers: of_url(servers, "MongoDB"),
    "Redis": lambda servers: of_url(servers, "Redis"),
}
KINDS = ["password", "user", "CA", "plain text", "TLS", "expired", "host"]
# Seconds, where a wrong setting is told when the time is over: the server says nothing, or its
# driver tries again until then.
SILENT, RETRIED = "0.5", "2"
TIMEOUTS = {
    **{(server, kind): SILENT for server in ("MongoDB", "Redis") for kind in ("plain text", "TLS")},
    **{("MongoDB", kind): RETRIED for kind in ("CA", "expired", "host")},
}


@pytest.mark.parametrize(
    ("server", "kind"),
    [(server, kind) for server in FAULTS for kind in KINDS] + [("Kafka", "mechanism")],
)
def test_a_wrong_setting_is_named_with_the_server_and_the_reason(
    servers: SecuredServers, server: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    fault = FAULTS[server](servers)[kind]
    timeout = TIMEOUTS.get((server, kind))
    timeouts = {"MONGO_TIMEOUT": timeout, "REDIS_TIMEOUT": timeout} if timeout else {}
    environment = servers.environment("command", START_TIMEOUT="0", **timeouts, **fault.settings)
    for command in (("health",), ("worker", "command"), ("serve",)):
        done = invoke(servers, environment, *command)
        assert done.exit_code == 1, (command, done.output)
        lines = done.stdout if command == ("health",) else done.stderr
        if command == ("health",):
            (line,) = [each for each in lines.splitlines() if each.split()[1] == server]
        else:
            (line,) = lines.splitlines()
        for word in (server, fault.address, fault.reason, PREFIX + fault.variable):
            assert word in line, (command, line)
        for secret in (PASSWORD, WRONG):
            assert secret not in done.output + caplog.text, command


def test_right_settings_pass(servers: SecuredServers) -> None:
    done = invoke(servers, servers.environment("command"), "health")
    assert done.exit_code == 0, done.output
    plain = servers.environment(
        "command", KAFKA_SASL_MECHANISM="PLAIN", KAFKA_USERNAME="plain", DOMAINS=""
    )
    done = invoke(servers, plain, "health")
    assert done.exit_code == 0, done.output


def test_a_traceback_and_debug_messages_hold_no_secret(servers: SecuredServers) -> None:
    environment = servers.environment("append", KAFKA_PASSWORD=WRONG)
    done = subprocess.run(
        [sys.executable, "-m", "eventfleet.cli", "-v", "worker", "append"],
        env=environment,
        cwd=servers.folder,
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
    )
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith(f"eventfleet: Kafka at {servers.kafka.secured}: ")
    assert PASSWORD not in said
    assert WRONG not in said


@pytest.mark.parametrize("variable", ["REDIS_URL", "MONGO_URL"])
def test_a_password_that_is_not_encoded_is_not_told(servers: SecuredServers, variable: str) -> None:
    scheme = "redis" if variable == "REDIS_URL" else "mongodb"
    for mark in "/#?":
        url = f"{scheme}://fleet:hunter{mark}tail2@127.0.0.1:1/0"
        environment = servers.environment("command", **{variable: url, "MONGO_TIMEOUT": "0.3"})
        done = invoke(servers, environment, "health")
        assert done.exit_code == 1
        assert "hunter" not in done.output, url
        assert "tail2" not in done.output, url


# A client whose credentials are refused while it runs


def connection(servers: SecuredServers, role: str, **changed: str) -> Connection:
    values: dict[str, str] = {
        "bootstrap": servers.kafka.secured,
        "security": "SASL_SSL",
        "mechanism": "SCRAM-SHA-512",
        "username": f"{DOMAIN}-{role}",
        "password": PASSWORD,
        "ca_file": servers.ca,
    }
    return Connection(**(values | changed), timeout=4)  # type: ignore[arg-type]


async def test_refused_credentials_are_not_tried_again_and_an_absent_broker_is(
    servers: SecuredServers,
) -> None:
    group, topic = f"eventfleet.{DOMAIN}.append", f"{DOMAIN}.events"
    for changed, access in (
        ({"password": WRONG}, AccessFault.CREDENTIALS),
        ({"ca_file": servers.other_ca}, AccessFault.CERTIFICATE),
    ):
        refused = connection(servers, "append", **changed)
        calls: list[Awaitable[object]] = [
            TransactionalWriter(refused, group, topic, 0).open(),
            Reader(refused).watermarks(topic),
            Producer(refused).produce([ProducerRecord(topic, b"k", b"v")]),
            Admin(refused).transactional(),
        ]
        for call in calls:
            with pytest.raises(AccessRefused) as raised:
                await call
            assert raised.value.access is access
            assert not isinstance(raised.value, ServerUnavailable)
    # One broker of several is away, and the other refuses; then one that is away only.
    away = f"127.0.0.1:{free_port()}"
    both = connection(
        servers, "append", bootstrap=f"{servers.kafka.secured},{away}", password=WRONG
    )
    with pytest.raises(AccessRefused):
        await TransactionalWriter(both, group, topic, 0).open()
    absent = connection(servers, "append", bootstrap=away)
    with pytest.raises(ServerUnavailable, match=away):
        await TransactionalWriter(absent, group, topic, 0).open()


async def test_a_consumer_whose_credentials_are_refused_ends(servers: SecuredServers) -> None:
    settings = Settings(kafka_brokers=servers.kafka.secured)
    agent = CopyAgent(settings, f"{DOMAIN}.events", copying(settings, f"{DOMAIN}.events", Mood()))
    log = KafkaLog(connection(servers, "append", password=WRONG))
    app = role_app(settings, log, agent, Metrics())
    async with asyncio.timeout(BOUND_SECONDS):
        with pytest.raises(AccessRefused, match="user name and password are not accepted"):
            await run_apps([app], asyncio.Event())


# Rights


def test_each_role_works_with_the_rights_that_the_scripts_give(servers: SecuredServers) -> None:
    kafka = KafkaByHand(servers.kafka.address)
    workers = [
        Worker((role,), servers.environment(role), servers.folder / f"{role}.log")
        for role in WORKERS
    ]
    try:
        with serving(servers.environment("serve"), servers.folder) as service:
            for worker in workers:
                wait_for(worker.ready, f"{worker.roles} to be ready")
            with service.client() as client:
                for stage in ("appended", "snapshotted", "relayed"):
                    answer = sent(client, f"{DOMAIN}/p-1/Post?wait={stage}", {"grams": 5})
                    assert answer.json()["stage"] == stage, answer.text
                kafka.produce([command_record("p-2")])
                wait_for(lambda: kafka.records(f"{DOMAIN}.replies"), "the reply of command")
                found = wait_for(lambda: state(client, "p-2"), "the state")
                assert found["state"] == {"grams": 7}
            wait_for(lambda: len(kafka.records(ROUTE)) == 4, "relay")
            wait_for(lambda: kafka.records(f"{DOMAIN}.snapshots"), "snapshot")
    finally:
        logs = "\n".join(worker.output() for worker in workers)
        statuses = [worker.stop() for worker in workers]
    assert statuses == [0] * len(workers), logs
    assert "lacks" not in logs
    assert PASSWORD not in logs + service.said()
    done = invoke(servers, servers.environment("audit"), "audit", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["stored"], report["relayed"], report["clean"]) == (4, 4, True)
    for role in WORKERS:
        done = invoke(servers, servers.environment(role), "health")
        assert done.exit_code == 0 or role != "command", done.output


def command_record(parcel: str) -> NewRecord:
    envelope = {
        "specversion": "1.0",
        "id": f"post-{parcel}",
        "source": DOMAIN,
        "type": "Post",
        "subject": parcel,
        "time": "2026-01-01T00:00:00.000Z",
        "data": {"grams": 7},
    }
    return NewRecord(f"{DOMAIN}.commands", parcel.encode(), json.dumps(envelope).encode())


def state(client: httpx.Client, parcel: str) -> object:
    found = client.get(f"/domains/{DOMAIN}/{parcel}/state")
    return found.json() if found.status_code == 200 else None


GROUP = f"eventfleet.{DOMAIN}.append"
TRANSACTIONS = f"{GROUP}-{DOMAIN}.events-"
MISSING = {
    "a worker's look at its topics": (
        ("worker", "append"),
        ("Describe", "--topic", PREFIX_OF_TOPICS, PREFIXED),
        f"Describe on topic {DOMAIN}.commands",
    ),
    "its check of them": (
        ("worker", "append"),
        ("DescribeConfigs", "--topic", PREFIX_OF_TOPICS, PREFIXED),
        "DescribeConfigs on topic",
    ),
    "its group": (("worker", "append"), ("Read", "--group", GROUP, LITERAL), f"on group {GROUP}"),
    "its source": (
        ("worker", "append"),
        ("Read", "--topic", f"{DOMAIN}.events", LITERAL),
        f"Read on topic {DOMAIN}.events",
    ),
    "its transactions": (
        ("worker", "append"),
        ("Write", "--transactional-id", TRANSACTIONS, PREFIXED),
        f"Write on transactional id {TRANSACTIONS}",
    ),
    "a service's look at its topics": (
        ("serve",),
        ("Describe", "--topic", PREFIX_OF_TOPICS, PREFIXED),
        f"Describe on topic {DOMAIN}.",
    ),
    "an audit's reading": (
        ("audit",),
        ("Read", "--topic", ROUTE, LITERAL),
        f"on topic {ROUTE}",
    ),
    "an audit's look at a group": (
        ("audit",),
        ("Describe", "--group", GROUP, LITERAL),
        f"Describe on group {GROUP}",
    ),
}


@pytest.mark.parametrize(("command", "right", "named"), MISSING.values(), ids=MISSING)
def test_a_right_that_is_missing_on_kafka_is_named(
    servers: SecuredServers,
    command: tuple[str, ...],
    right: tuple[str, str, str, int],
    named: str,
) -> None:
    role = command[-1]
    with servers.without(f"{DOMAIN}-{role}", *right):
        done = invoke(servers, servers.environment(role), *command)
    assert done.exit_code == 1, done.output
    last = done.stderr.splitlines()[-1]
    assert last.startswith("eventfleet: ")
    assert f"the user lacks the right {named}" in last or named in last
    assert "Kafka" in last


def test_a_source_that_a_user_may_not_read_is_named_by_the_first_commit(
    servers: SecuredServers,
) -> None:
    source = f"{DOMAIN}.events"
    writer = TransactionalWriter(connection(servers, "append"), GROUP, source, 0)

    async def begin() -> None:
        await writer.open()
        await writer.commit([], 0)

    named = f"lacks the right Read on topic {source}"
    without = servers.without(f"{DOMAIN}-append", "Read", "--topic", source, LITERAL)
    with without, pytest.raises(AccessRefused, match=named):
        asyncio.run(begin())


async def test_a_topic_that_a_user_may_not_write_or_create_is_named(
    servers: SecuredServers,
) -> None:
    mine = connection(servers, "relay")
    producer = Producer(mine)
    with pytest.raises(TopicRefused, match=f"lacks the right Write on topic {DOMAIN}.stored"):
        await producer.produce([ProducerRecord(f"{DOMAIN}.stored", b"k", b"v", 0)])
    with pytest.raises(AccessRefused, match="Create on topic another"):
        await Admin(mine).create([TopicSpec("another", 1, 1)])
    missing = TopicSpec(f"{DOMAIN}.another", 1, 1)
    with pytest.raises(Misconfigured, match=f"{missing.name}.*have them created by whoever may"):
        await create_missing_topics(Admin(mine), Reader(mine), [missing])
    any_user = Admin(Connection(servers.kafka.address))
    with pytest.raises(Misconfigured, match=f"topic {missing.name} can't be created: .*replica"):
        await any_user.create([TopicSpec(missing.name, 1, 3)])
    # In a transaction, too, and the broker is still known to have them.
    group, source = f"eventfleet.{DOMAIN}.relay", f"{DOMAIN}.stored"
    writer = TransactionalWriter(mine, group, source, 0)
    await writer.open()
    with pytest.raises(TopicRefused, match=f"lacks the right Write on topic {DOMAIN}.events"):
        await writer.commit([ProducerRecord(f"{DOMAIN}.events", b"k", b"v", 0)], 0)
    assert await Admin(connection(servers, "audit")).transactional()


TERMS = MarkerTimeouts(60, 5, 60)
LACKING = {
    "scripts": ("command", ["-evalsha"], "evalsha"),
    "loading them": ("command", ["-script|load"], "script"),
    "a command of a script": ("command", ["-hset"], "lacks a right"),
    "keys": ("command", ["resetkeys", "~life", f"~owner:{DOMAIN}:*"], "lacks a right"),
    "keys of owners": (
        "command",
        ["resetkeys", "~life", f"~marker:{DOMAIN}:*", f"~done:{DOMAIN}:*"],
        "lacks a right",
    ),
    "information": ("command", ["-info"], "info"),
    "publishing": ("append", ["-publish"], "publish"),
    "channels": ("append", ["resetchannels"], "channel"),
}


@pytest.mark.parametrize(("role", "rules", "named"), LACKING.values(), ids=LACKING)
def test_a_right_that_is_missing_on_redis_is_named(
    servers: SecuredServers, role: str, rules: list[str], named: str
) -> None:
    async def work() -> None:
        url = servers.redis_url(role)
        markers = RedisMarkers(url, DOMAIN, TERMS, timeout=4)
        notices = RedisNotices(url, timeout=4)
        try:
            if role == "append":
                await notices.publish({"notices:c": [Notice("e1", Stage.APPENDED)]})
            else:
                incarnation = await markers.incarnation()
                owner = MarkOwner(0, uuid4().hex)
                await markers.note_owner(owner, incarnation)
                request = MarkRequest(
                    *("a", uuid4().hex, "Posted", b"v", None, incarnation, StoredHead("", "")),
                    owner=owner,
                )
                assert (await markers.mark([request]))[0].status is MarkStatus.OK
                await markers.withdraw([Note("a", request.event_id, "")], incarnation)
        finally:
            await markers.close()
            await notices.close()

    asyncio.run(work())
    with servers.redis_user(role, *rules), pytest.raises(AccessRefused, match=named) as raised:
        asyncio.run(work())
    assert raised.value.access is AccessFault.RIGHT
    assert "Redis" in str(raised.value)


@pytest.mark.parametrize(
    ("action", "command"), [("listIndexes", ("worker", "relay")), ("find", ("health",))]
)
def test_a_right_that_is_missing_on_mongodb_is_named(
    servers: SecuredServers, action: str, command: tuple[str, ...]
) -> None:
    """The stand-in looks at the actions of a role on any collection of the database."""
    with servers.without_action("relay", action):
        done = invoke(servers, servers.environment("relay"), *command)
    assert done.exit_code == 1, done.output
    (line,) = [each for each in done.output.splitlines() if "lacks a right" in each]
    assert "MongoDB" in line
    assert f"action: {action}" in line


async def test_an_audit_may_not_write_to_mongodb(servers: SecuredServers) -> None:
    url = servers.mongo_url("audit")
    async with open_stores(url, DATABASE, [DOMAIN], timeout=4, snapshots_kept=3) as stores:
        with pytest.raises(AccessRefused, match="lacks a right") as raised:
            await stores[DOMAIN].events.registry.raise_epoch()
    assert raised.value.access is AccessFault.RIGHT
