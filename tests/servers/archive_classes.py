"""Starts and stops a Kafka once to archive the classes that it loads."""

from collections.abc import Sequence
from pathlib import Path

from tests.servers.install import KAFKA_CLASSES
from tests.servers.kafka import JAVA, Kafka


class ArchivingKafka(Kafka):
    def command(self) -> Sequence[str | Path]:
        java = (part for part in JAVA if "SharedArchiveFile" not in part)
        program, *options = java
        archive = KAFKA_CLASSES.with_suffix(".new")
        return (
            program,
            f"-XX:ArchiveClassesAtExit={archive}",
            *options,
            "kafka.Kafka",
            self.properties,
        )


if __name__ == "__main__":
    with ArchivingKafka() as server:
        server.stop()
    KAFKA_CLASSES.with_suffix(".new").rename(KAFKA_CLASSES)
