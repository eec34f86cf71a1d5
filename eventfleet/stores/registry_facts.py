"""The facts of a store's registry that can't be read from its events, as a record of the log."""

from collections.abc import Sequence

import msgspec

from eventfleet.model.event_shapes import EventShape
from eventfleet.stores.contracts import RegistryFacts, Repair
from eventfleet.topics.record import LogRecord, ProducerRecord

KEY = b"registry/facts"
PARTITION = 0

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(RegistryFacts).decode


def registry_record(topic: str, facts: RegistryFacts) -> ProducerRecord:
    """Make the record of `topic`, a `<domain>.parked`, with a copy of the registry's facts."""
    return ProducerRecord(topic, KEY, _encode(facts), PARTITION)


def read_registry_facts(record: LogRecord) -> RegistryFacts | None:
    """Return the facts that a record of `<domain>.parked` has; None: it is of another kind."""
    return _decode(record.value) if record.key == KEY and record.value else None


def merge_shapes(
    recovered: Sequence[EventShape], recorded: Sequence[EventShape]
) -> list[EventShape]:
    """Return the recovered shapes and, behind them, those that are recorded here alone."""
    return [*recovered, *(each for each in recorded if each not in recovered)]


def merge_repairs(recovered: Sequence[Repair], recorded: Sequence[Repair]) -> list[Repair]:
    """Return all repairs, in the order of their epochs."""
    all_repairs = [*recorded, *(each for each in recovered if each not in recorded)]
    return sorted(all_repairs, key=lambda repair: (repair.epoch, repair.time))
