"""Fold by hand: msgspec straight into typed payloads, the same evolve, a dict of states."""

from datetime import datetime

import msgspec

from benchmarks.contenders.fold_data import records
from benchmarks.contenders.task import Clock, Result, Task, run, task, told
from benchmarks.data import EVENTS, Account, evolve
from eventfleet.topics.record import LogRecord


class Wire(msgspec.Struct):
    """An event on its way, its payload unread."""

    id: str
    type: str
    source: str
    subject: str
    time: datetime
    version: int
    data: msgspec.Raw


decode = msgspec.json.Decoder(Wire).decode
payload_of = {kind.__name__: msgspec.json.Decoder(kind).decode for kind in EVENTS}

Lives = dict[str, tuple[int, Account]]


def fold(lives: Lives, chunk: list[LogRecord]) -> int:
    """Fold a chunk; the sum of its values' lengths."""
    for record in chunk:
        wire = decode(record.value or b"")
        version, account = lives.get(wire.subject) or (0, Account())
        if wire.version != version + 1:
            raise RuntimeError(f"{wire.subject}: version {wire.version} after {version}")
        lives[wire.subject] = wire.version, evolve(account, payload_of[wire.type](wire.data))
    return sum(len(record.value or b"") for record in chunk)


async def main(task: Task) -> None:
    clock, folded = Clock(), records(task)
    lives: Lives = {}
    fold(lives, folded.warm)
    check = 0
    clock.start()
    for start in range(0, len(folded.rest), task.chunk):
        check += fold(lives, folded.rest[start : start + task.chunk])
    clock.stop()
    settings = {"chunk": str(task.chunk), "decode": "msgspec"}
    told(Result(len(folded.rest), clock.seconds, clock.cpu, check, settings))


if __name__ == "__main__":
    run(main(task()))
