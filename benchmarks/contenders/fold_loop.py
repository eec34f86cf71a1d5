"""Hand-written fold: msgspec straight into typed payloads, the same evolve, a dict of states."""

from datetime import datetime

import msgspec

from benchmarks.contenders.fold_data import make_records
from benchmarks.contenders.task import (
    ContenderTask,
    Result,
    Stopwatch,
    read_task,
    run,
    write_result,
)
from benchmarks.data import EVENTS, Account, evolve
from eventfleet.topics.record import LogRecord


class EventEnvelope(msgspec.Struct):
    """An event as JSON in a topic, its payload undecoded."""

    id: str
    type: str
    source: str
    subject: str
    time: datetime
    version: int
    data: msgspec.Raw


decode = msgspec.json.Decoder(EventEnvelope).decode
payload_decoders = {
    event_type.__name__: msgspec.json.Decoder(event_type).decode for event_type in EVENTS
}

LiveStates = dict[str, tuple[int, Account]]


def fold(live_states: LiveStates, chunk: list[LogRecord]) -> int:
    """Fold a chunk and return the sum of its values' lengths."""
    for record in chunk:
        envelope = decode(record.value or b"")
        version, account = live_states.get(envelope.subject) or (0, Account())
        if envelope.version != version + 1:
            raise RuntimeError(f"{envelope.subject}: version {envelope.version} after {version}")
        live_states[envelope.subject] = (
            envelope.version,
            evolve(account, payload_decoders[envelope.type](envelope.data)),
        )
    return sum(len(record.value or b"") for record in chunk)


async def main(task: ContenderTask) -> None:
    clock, records = Stopwatch(), make_records(task)
    live_states: LiveStates = {}
    fold(live_states, records.warm_up)
    value_bytes = 0
    clock.start()
    for start in range(0, len(records.rest), task.chunk):
        value_bytes += fold(live_states, records.rest[start : start + task.chunk])
    clock.stop()
    settings = {"chunk": str(task.chunk), "decode": "msgspec"}
    write_result(Result(len(records.rest), clock.seconds, clock.cpu, value_bytes, settings))


if __name__ == "__main__":
    run(main(read_task()))
