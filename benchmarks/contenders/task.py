"""A contender's protocol: a task as JSON in its argument, a result as JSON on its stdout.

async def main(task: Task) -> None:
    clock = Clock()
    ...  # start, join, fetch the first bytes
    clock.start()
    ...  # until the last offset is committed
    clock.stop()
    write_result(Result(events, clock.seconds, clock.cpu, value_bytes, settings))

if __name__ == "__main__":
    run(main(read_task()))
"""

import asyncio
import gc
import sys
import time
from collections.abc import Coroutine
from typing import Any

import msgspec
import uvloop

GC_THRESHOLDS = (50_000, 20, 20)
EVENT_LOOP = "uvloop"


class ContenderTask(msgspec.Struct, frozen=True):
    """One run of a contender: read `records` from `topic`, at most `chunk` at a time."""

    kafka: str
    mongo_url: str
    redis_url: str
    domain: str
    partitions: int
    records: int
    chunk: int
    database: str
    topic: str = ""
    group: str = ""
    extra: dict[str, Any] = {}


class Result(msgspec.Struct, frozen=True):
    """The result of one run.

    `seconds` and `cpu` (of the whole process) from the first chunk in hand until the last offset
    is committed; `value_bytes`: the sum of the lengths of all values read; `settings`: those that
    matter to speed; `measures`: further figures by name, such as p50 and p99 in seconds. On the
    wire these stand beside the other keys.
    """

    events: int
    seconds: float
    cpu: float
    value_bytes: int
    settings: dict[str, Any]
    measures: dict[str, float] = {}

    def encode(self) -> bytes:
        fields = msgspec.structs.asdict(self)
        return msgspec.json.encode(fields | fields.pop("measures"))

    @classmethod
    def decode(cls, line: bytes) -> "Result":
        """Decode a line; ValidationError when it is not a result."""
        fields = msgspec.json.decode(line, type=dict[str, Any])
        extra = {name: fields.pop(name) for name in set(fields) - set(cls.__struct_fields__)}
        return msgspec.convert(fields | {"measures": extra}, cls)


class Stopwatch:
    """Measures elapsed and CPU seconds from the first `start`; further calls of it do nothing."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu = 0.0
        self._started: tuple[float, float] | None = None

    def start(self) -> None:
        if self._started is None:
            self._started = (time.perf_counter(), time.process_time())

    def stop(self) -> None:
        if self._started is None:
            raise RuntimeError("the clock was never started")
        self.seconds = time.perf_counter() - self._started[0]
        self.cpu = time.process_time() - self._started[1]


def read_task() -> ContenderTask:
    """Read the task from this process's argument."""
    return msgspec.json.decode(sys.argv[1], type=ContenderTask)


def write_result(result: Result) -> None:
    """Write the result to stdout."""
    sys.stdout.buffer.write(result.encode() + b"\n")
    sys.stdout.flush()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a contender as workers run in production: on uvloop, also in threads, and with rare
    garbage collections."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    asyncio.run(main)
