"""Pass-through by Quix Streams: one value at a time through a dataframe."""

import tempfile
from typing import Any

from quixstreams import Application
from quixstreams.checkpointing import Checkpoint
from quixstreams.processing import context

from benchmarks.contenders.task import ContenderTask, Result, Stopwatch, read_task, write_result

CONSUMER = {
    "isolation.level": "read_committed",
    "max.partition.fetch.bytes": 1_048_576,
    "fetch.wait.max.ms": 100,
    "check.crcs": True,
}


def main(task: ContenderTask) -> None:
    clock = Stopwatch()
    events = value_bytes = 0

    class Timed(Checkpoint):
        def commit(self, *args: Any, **options: Any) -> None:
            super().commit(*args, **options)
            clock.stop()

    context.Checkpoint = Timed  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            task.kafka,
            consumer_group=task.group,
            auto_offset_reset="earliest",
            commit_every=task.chunk,
            consumer_extra_config=CONSUMER,
            state_dir=folder,
            auto_create_topics=False,
            loglevel=None,
        )

        def count(value: bytes) -> None:
            nonlocal events, value_bytes
            clock.start()
            events += 1
            value_bytes += len(value)
            if events == task.records:
                app.stop()

        topic = app.topic(task.topic, key_deserializer="bytes", value_deserializer="bytes")
        app.dataframe(topic).update(count)
        app.run()
    settings = {
        "chunk": task.chunk,
        "fetch bytes": CONSUMER["max.partition.fetch.bytes"],
        "isolation": CONSUMER["isolation.level"],
        "commit": "each chunk",
        "event loop": "none: librdkafka's threads",
    }
    write_result(Result(events, clock.seconds, clock.cpu, value_bytes, settings))


if __name__ == "__main__":
    main(read_task())
