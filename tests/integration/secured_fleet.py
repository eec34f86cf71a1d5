"""A fleet of one domain on servers that ask for TLS, credentials and rights."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import redis

from eventfleet.runtime.settings import PREFIX
from tests.conftest import running
from tests.servers.certificates import Authority
from tests.servers.kafka import SecuredKafka
from tests.servers.kafka_acls import LITERAL, PREFIXED, RESOURCES, Acl, KafkaAcls
from tests.servers.mongodb import SecuredMongoDB
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis
from tests.servers.server import free_port

SCRIPTS = Path(__file__).parents[2] / "deploy" / "security"
DATABASE = "secured"
PASSWORD = "s3cret-hunter2"
WRONG = "wr0ng-hunter2"
DOMAIN = "parcels"
ROUTE = "outbox"
ROLES = ("topics", "append", "snapshot", "relay", "command", "serve", "audit")
WORKERS = ("append", "snapshot", "relay", "command")
MONGO_ROLES = {"command": "decider", "serve": "decider"}
PARCELS = f'''
from eventfleet import START, Command, Domain, Emits, Event, Route, State, every


class Posted(Event):
    grams: int


class Parcel(State):
    grams: int = 0


class Post(Command):
    grams: int


def evolve(parcel: Parcel, event: Event) -> Parcel:
    return Parcel(grams=event.grams)


{DOMAIN} = Domain(
    "{DOMAIN}",
    state=Parcel,
    evolve=evolve,
    events=[Posted],
    commands=[Emits(Post, Posted, after={{START, Posted}})],
    snapshot=every(2),
    routes=[Route("{ROUTE}", types=[Posted])],
)
'''
RECORDER = """#!/bin/sh
echo "$*" >> {file}
"""


class SecuredServers:
    """The servers, each with a listener that is secured, and a plain one for tests.

    `expired`, `elsewhere`: for each server, the address of a listener with a certificate that has
    expired, or that names another host.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        (folder / f"{DOMAIN}.py").write_text(PARCELS)
        authority, stranger = Authority(folder, "authority"), Authority(folder, "stranger")
        self.ca, self.other_ca = str(authority.cert), str(stranger.cert)
        good = authority.issue("good")
        start = stack.enter_context
        users = [f"{DOMAIN}-{role}" for role in ROLES]
        self.kafka = start(running(lambda: SecuredKafka(good, PASSWORD, users)))
        self.redis_tls = f"127.0.0.1:{free_port()}"
        tls = ("--tls-port", self.redis_tls.rpartition(":")[2], "--tls-auth-clients", "no")
        files = ("--tls-cert-file", str(good.cert), "--tls-key-file", str(good.key))
        acl = ("--aclfile", str(self._redis_users()))
        self.redis = start(running(lambda: Redis(*tls, *files, *acl)))
        self.mongo = start(running(SecuredMongoDB))
        self._make_mongo_users()
        self.mongo_tls = start(Proxy(self.mongo.address, good.context())).address
        plain = {
            "Kafka": self.kafka.address,
            "Redis": self.redis.address,
            "MongoDB": self.mongo.address,
        }
        expired = authority.issue("expired", valid=timedelta(days=-1)).context()
        elsewhere = authority.issue("elsewhere", "elsewhere.example").context()
        self.expired = {name: start(Proxy(at, expired)).address for name, at in plain.items()}
        self.elsewhere = {name: start(Proxy(at, elsewhere)).address for name, at in plain.items()}
        self.acls, self.kafka_acls = self._granted(), KafkaAcls(self.kafka.address)
        self.kafka_acls.allow(*self.acls)

    def environment(self, role: str, **settings: str) -> dict[str, str]:
        """The variables of a process that is the user of a role."""
        mine = {
            "DOMAINS": DOMAIN,
            "PARTITIONS": "2",
            "METRICS_PORT": "0",
            "HTTP_PORT": "0",
            "MONGO_DATABASE": DATABASE,
            "KAFKA_BROKERS": self.kafka.secured,
            "KAFKA_SECURITY": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_USERNAME": f"{DOMAIN}-{role}",
            "KAFKA_PASSWORD": PASSWORD,
            "KAFKA_CA_FILE": self.ca,
            "REDIS_URL": self.redis_url(role),
            "MONGO_URL": self.mongo_url(role),
            **settings,
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
        return inherited | {PREFIX + name: value for name, value in mine.items()}

    def redis_url(
        self, role: str, address: str = "", password: str = PASSWORD, ca: str = "", tls: bool = True
    ) -> str:
        scheme, options = ("rediss", f"?ssl_ca_certs={ca or self.ca}") if tls else ("redis", "")
        return f"{scheme}://{DOMAIN}-{role}:{password}@{address or self.redis_tls}/0{options}"

    def mongo_url(
        self, role: str, address: str = "", password: str = PASSWORD, ca: str = "", tls: bool = True
    ) -> str:
        options = f"&tls=true&tlsCAFile={ca or self.ca}" if tls else ""
        user = f"{DOMAIN}-{role}:{password}@{address or self.mongo_tls}"
        return f"mongodb://{user}/?directConnection=true&authSource={DATABASE}{options}"

    # Kafka's rights

    @contextmanager
    def without(self, *acl: Any) -> Iterator[None]:
        """Take a right away for the length of the block."""
        assert acl in self.acls, self.acls
        with self.kafka_acls.without(acl):
            yield

    def _granted(self) -> list[Acl]:
        """The rights that the script gives."""
        calls, recorder = self.folder / "kafka-acls.calls", self.folder / "recorder"
        recorder.write_text(RECORDER.format(file=shlex.quote(str(calls))))
        recorder.chmod(0o755)
        variables = {"KAFKA_ACLS": str(recorder), "BROKERS": "b:1", "ADMIN_CONFIG": "none"}
        command = [SCRIPTS / "kafka-acls.sh", DOMAIN, ROUTE]
        subprocess.run(command, env=os.environ | variables, check=True, timeout=60)
        return [acl for line in calls.read_text().splitlines() for acl in _acls(line.split())]

    # The users of Redis and of MongoDB

    @contextmanager
    def redis_user(self, role: str, *rules: str) -> Iterator[None]:
        """A Redis user has further rules for the length of the block."""
        name = f"{DOMAIN}-{role}"
        with redis.Redis.from_url(f"redis://tests@{self.redis.address}/0") as client:
            client.execute_command("ACL", "SETUSER", name, *rules)
            client.execute_command("CLIENT", "KILL", "USER", name)
            try:
                yield
            finally:
                client.execute_command("ACL", "LOAD")

    def _redis_users(self) -> Path:
        passwords, users = self.folder / "passwords", self.folder / "users.acl"
        passwords.mkdir()
        for role in ROLES:
            (passwords / role).write_text(PASSWORD + "\n")
        command = [SCRIPTS / "redis-users.sh", DOMAIN, passwords]
        lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        assert PASSWORD not in lines.stdout
        users.write_text(f"{lines.stdout}user tests on nopass ~* &* +@all\n")
        return users

    @contextmanager
    def without_action(self, role: str, action: str) -> Iterator[None]:
        """A role of MongoDB lacks an action on all collections for the length of the block."""
        rights = _mongo_rights()[role]
        fewer = {
            kind: [each for each in actions if each != action] for kind, actions in rights.items()
        }
        assert fewer != rights
        self._set_role("updateRole", role, fewer)
        try:
            yield
        finally:
            self._set_role("updateRole", role, rights)

    def _make_mongo_users(self) -> None:
        for role, rights in _mongo_rights().items():
            self._set_role("createRole", role, rights)
        with pymongo.MongoClient[dict[str, Any]](self.mongo.admin_url) as client:
            for role in ROLES[1:]:
                mine = [f"{DOMAIN}-{MONGO_ROLES.get(role, role)}"]
                client[DATABASE].command("createUser", f"{DOMAIN}-{role}", pwd=PASSWORD, roles=mine)

    def _set_role(self, command: str, role: str, rights: Mapping[str, Sequence[str]]) -> None:
        names = {kind: f"{DOMAIN}.{kind}" for kind in ("events", "snapshots", "dead_letters")}
        privileges = [
            {"resource": {"db": DATABASE, "collection": names.get(kind, kind)}, "actions": actions}
            for kind, actions in rights.items()
        ]
        with pymongo.MongoClient[dict[str, Any]](self.mongo.admin_url) as client:
            client[DATABASE].command(command, f"{DOMAIN}-{role}", privileges=privileges, roles=[])


def _mongo_rights() -> dict[str, dict[str, list[str]]]:
    rights: dict[str, dict[str, list[str]]] = json.loads(
        (SCRIPTS / "mongodb-roles.json").read_text()
    )
    return rights


def _acls(words: Sequence[str]) -> Iterator[Acl]:
    """The rights of one call of kafka-acls.sh."""
    options = [(words[i], words[i + 1]) for i in range(len(words) - 1) if words[i][:2] == "--"]
    found: Mapping[str, str] = dict(options)
    pattern = PREFIXED if found.get("--resource-pattern-type") == "prefixed" else LITERAL
    user = found["--allow-principal"].removeprefix("User:")
    operations = [value for name, value in options if name == "--operation"]
    resources = [each for each in options if each[0] in RESOURCES]
    assert operations
    assert resources
    for operation in operations:
        for kind, name in resources:
            yield user, operation, kind, name, pattern
