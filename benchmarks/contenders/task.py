"""What a side is told and what it tells: a task as JSON in its argument, a result on its stdout.

async def main(task: Task) -> None:
    clock = Clock()
    ...  # start, join, fetch the first bytes
    clock.start()
    ...  # until the last offset is committed
    clock.stop()
    told(Result(events, clock.seconds, clock.cpu, check, settings))

if __name__ == "__main__":
    run(main(task()))
"""

import asyncio
import gc
import sys
import time
from collections.abc import Coroutine
from typing import Any

import msgspec
import uvloop

COLLECTIONS = (50_000, 20, 20)
LOOP = "uvloop"


class Task(msgspec.Struct, frozen=True):
    """One run of one side. `records` are to be read from `topic`; `chunk` is the most at once."""

    kafka: str
    mongo_url: str
    redis_url: str
    domain: str
    topic: str
    group: str
    partitions: int
    records: int
    chunk: int
    database: str
    more: dict[str, Any] = {}


class Result(msgspec.Struct, frozen=True):
    """What one run came to.

    `seconds` and `cpu` (of the whole process) from the first chunk in hand until the last offset
    is committed; `check`: the sum of the lengths of all values read; `settings`: what matters to
    speed; `measures`: further figures by name, such as p50 and p99 in seconds. On the wire these
    stand beside the other keys.
    """

    events: int
    seconds: float
    cpu: float
    check: int
    settings: dict[str, Any]
    measures: dict[str, float] = {}

    def line(self) -> bytes:
        fields = msgspec.structs.asdict(self)
        return msgspec.json.encode(fields | fields.pop("measures"))

    @classmethod
    def parse(cls, line: bytes) -> "Result":
        """ValidationError when it is no result."""
        fields = msgspec.json.decode(line, type=dict[str, Any])
        more = {name: fields.pop(name) for name in set(fields) - set(cls.__struct_fields__)}
        return msgspec.convert(fields | {"measures": more}, cls)


class Clock:
    """Elapsed and CPU seconds from the first `start` on; later ones do nothing."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu = 0.0
        self._began: tuple[float, float] | None = None

    def start(self) -> None:
        if self._began is None:
            self._began = (time.perf_counter(), time.process_time())

    def stop(self) -> None:
        if self._began is None:
            raise RuntimeError("the clock was never started")
        self.seconds = time.perf_counter() - self._began[0]
        self.cpu = time.process_time() - self._began[1]


def task() -> Task:
    """What this process is told to do."""
    return msgspec.json.decode(sys.argv[1], type=Task)


def told(result: Result) -> None:
    """Tell what it came to."""
    sys.stdout.buffer.write(result.line() + b"\n")
    sys.stdout.flush()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a side as the workers in production are: on LOOP, threads too, and seldom collecting."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    gc.dump_state()
    gc.set_threshold(*COLLECTIONS)
    asyncio.run(main)
