"""Apache Kafka, one node that is broker and controller."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.servers.certificates import Certificate
from tests.servers.install import KAFKA, KAFKA_CLASSES, Absent
from tests.servers.server import Server, StartFailed, free_port

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={advertised}
controller.listener.names=CONTROLLER
log.dirs={folder}/data
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
log.cleaner.dedupe.buffer.size=8388608
"""
LOGGING = "-Dorg.slf4j.simpleLogger."
JAVA = (
    "java",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    f"-XX:SharedArchiveFile={KAFKA_CLASSES}",
    f"{LOGGING}defaultLogLevel=warn",
    f"{LOGGING}log.kafka.server.KafkaRaftServer=info",
    f"{LOGGING}showDateTime=true",
    "-cp",
    f"{KAFKA}/*",
)

PROXIED = """
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
"""

SECURITY = """
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL
inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={certificate}
listener.name.secured.sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.secured.scram-sha-512.sasl.jaas.config=\\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secured.plain.sasl.jaas.config=\\
  org.apache.kafka.common.security.plain.PlainLoginModule required user_plain="{password}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


class Kafka(Server):
    """`address` is the bootstrap server; topics are never created by themselves."""

    name = "kafka"

    def __init__(self) -> None:
        if not KAFKA.is_dir():
            raise Absent("Apache Kafka is not installed: python -m tests.servers.install")
        super().__init__()
        self.properties = self.folder / "server.properties"

    def command(self) -> Sequence[str | Path]:
        return (*JAVA, "kafka.Kafka", self.properties)

    def ready(self) -> bool:
        return "Kafka Server started" in self.output()

    def start(self) -> None:
        if not self.properties.exists():
            self._prepare()
        super().start()

    def listeners(self) -> Sequence[str]:
        return [f"PLAINTEXT://{self.address}"]

    def advertised(self) -> Sequence[str]:
        """Where clients find the listeners."""
        return self.listeners()

    def security(self) -> str:
        """Properties beside those of every test's broker."""
        return ""

    def users(self) -> Sequence[str]:
        """Options of the storage tool that make users."""
        return []

    def _prepare(self) -> None:
        listeners, advertised = ",".join(self.listeners()), ",".join(self.advertised())
        text = fill_properties(self.folder, listeners, advertised)
        self.properties.write_text(text + self.security())
        formatted = Path(format_storage(tuple(self.users())).name, "data")
        shutil.copytree(formatted, self.folder / "data")


def fill_properties(folder: Path, listeners: str, advertised: str) -> str:
    return PROPERTIES.format(
        listeners=listeners, advertised=advertised, controller=free_port(), folder=folder
    )


@cache
def format_storage(users: Sequence[str]) -> "tempfile.TemporaryDirectory[str]":
    """A folder whose `data` any broker with these users may begin with; made once per process."""
    folder = tempfile.TemporaryDirectory(prefix="eventfleet-kafka-format-")
    properties = Path(folder.name, "server.properties")
    listener = f"PLAINTEXT://127.0.0.1:{free_port()}"
    properties.write_text(fill_properties(Path(folder.name), listener, listener))
    options = ("--cluster-id", "eventfleet-tests-12345", "--config", str(properties), *users)
    command = (*JAVA, "kafka.tools.StorageTool", "format", *options)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise StartFailed(f"kafka's storage: {done.stdout}{done.stderr}")
    return folder


class ProxiedKafka(Kafka):
    """A Kafka whose second listener, `behind`, is found at the address of a proxy."""

    def __init__(self, proxy: str) -> None:
        super().__init__()
        self._proxy, self.behind = proxy, f"127.0.0.1:{free_port()}"

    def listeners(self) -> Sequence[str]:
        return [*super().listeners(), f"PROXIED://{self.behind}"]

    def advertised(self) -> Sequence[str]:
        return [*super().listeners(), f"PROXIED://{self._proxy}"]

    def security(self) -> str:
        return PROXIED


class SecuredKafka(Kafka):
    """A Kafka whose second listener, `secured`, speaks SASL_SSL and gives users their ACLs' rights.

    The plain listener is for the tests' own use: who connects there may do all. The users of
    SCRAM-SHA-512 all have one password, and so has the only one of PLAIN, `plain`.
    """

    def __init__(self, certificate: Certificate, password: str, users: Sequence[str]) -> None:
        super().__init__()
        self._certificate, self._password, self._users = certificate, password, users
        self.secured = f"127.0.0.1:{free_port()}"

    def listeners(self) -> Sequence[str]:
        return [*super().listeners(), f"SECURED://{self.secured}"]

    def security(self) -> str:
        return SECURITY.format(certificate=self._certificate.pem, password=self._password)

    def users(self) -> Sequence[str]:
        made = (f"name={user},password={self._password},iterations=4096" for user in self._users)
        return [option for each in made for option in ("--add-scram", f"SCRAM-SHA-512=[{each}]")]
