"""Dead letters: the record as it came, and why it could not be used."""

from eventfleet.topics.names import Topics
from eventfleet.topics.record import LogRecord, ProducerRecord

REASON = "eventfleet-reason"
KIND = "eventfleet-kind"
ROLE = "eventfleet-role"
SOURCE = "eventfleet-source"

UNREADABLE = "unreadable"
SUPERSEDED = "superseded"

MAX_REASON_CHARS = 1000


def make_dead_letter(
    domain: str, role: str, record: LogRecord, kind: str, reason: str
) -> ProducerRecord:
    """The record for `<domain>.dead-letters`: key, value and headers kept, coordinates added.

    `kind` is `unreadable` (somebody must look at it) or `superseded` (information only: a
    command's event that nobody was told was accepted). `reason` is cut to MAX_REASON characters:
    it may quote the record, and a dead letter must fit its topic.
    """
    headers = (
        *record.headers,
        (KIND, kind.encode()),
        (REASON, reason[:MAX_REASON_CHARS].encode(errors="replace")),
        (ROLE, role.encode()),
        (SOURCE, f"{record.topic}/{record.partition}/{record.offset}".encode()),
    )
    return ProducerRecord(
        Topics.of(domain).dead_letters, record.key, record.value, record.partition, headers
    )
