"""Apache Kafka, one node that is broker and controller."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.servers.install import KAFKA, Absent
from tests.servers.server import Server, StartFailed, free_port

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
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
    f"{LOGGING}defaultLogLevel=warn",
    f"{LOGGING}log.kafka.server.KafkaRaftServer=info",
    f"{LOGGING}showDateTime=true",
    "-cp",
    f"{KAFKA}/*",
)


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
            self._format()
        super().start()

    def _format(self) -> None:
        text = PROPERTIES.format(port=self.port, controller=free_port(), folder=self.folder)
        self.properties.write_text(text)
        options = ("--cluster-id", "eventfleet-tests-12345", "--config", str(self.properties))
        command = (*JAVA, "kafka.tools.StorageTool", "format", *options)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise StartFailed(f"kafka's storage: {done.stdout}{done.stderr}")
