"""Dead letters: records as they came, with the reason why they could not be used."""

from eventfleet.topics.record import LogRecord, ProducerRecord

REASON = "eventfleet-reason"
KIND = "eventfleet-kind"
ROLE = "eventfleet-role"
SOURCE = "eventfleet-source"
TRACEBACK = "eventfleet-traceback"

UNREADABLE = "unreadable"
SUPERSEDED = "superseded"
PARKED = "parked"

MAX_REASON_CHARS = 1000
MAX_TRACEBACK_CHARS = 10_000


def make_dead_letter(
    topic: str, role: str, record: LogRecord, kind: str, reason: str, traceback: str = ""
) -> ProducerRecord:
    """Make the record for `topic`, a domain's dead letters: all of the record, and its source.

    `kind` is `unreadable` (somebody must look at it), `parked` (its aggregate waits at it for a
    redrive) or `superseded` (for information only: the event of a command whose sender was not
    answered that it was accepted). `reason` is cut to MAX_REASON_CHARS, the team's `traceback` to
    its last MAX_TRACEBACK_CHARS: they may quote the record, and a dead letter must fit its topic.
    """
    headers = (
        *record.headers,
        (KIND, kind.encode()),
        (REASON, reason[:MAX_REASON_CHARS].encode(errors="replace")),
        (ROLE, role.encode()),
        (SOURCE, f"{record.topic}/{record.partition}/{record.offset}".encode()),
        *([(TRACEBACK, _end_of(traceback))] if traceback else []),
    )
    return ProducerRecord(topic, record.key, record.value, record.partition, headers)


def _end_of(traceback: str) -> bytes:
    return traceback[-MAX_TRACEBACK_CHARS:].encode(errors="replace")
