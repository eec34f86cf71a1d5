"""The names on the wire: a domain's topics, the consumer groups that read them, event types."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass

TOPIC_NAME = r"(?!\.{1,2}\Z)[a-zA-Z0-9._-]{1,249}"
TOPIC_NAME_RULE = "1 to 249 letters, digits, dots, '_' and '-'"
MAX_TOPIC_PREFIX_CHARS = 136
"""With this many, the longest topic of the longest domain name has as many as Kafka allows."""


@dataclass(frozen=True)
class Topics:
    """The name of one domain, and those of its topics.

    Fleet-owned topics have one writer; anyone may write to `commands`.
    """

    domain: str
    commands: str
    replies: str
    events: str
    stored: str
    snapshots: str
    dead_letters: str
    parked: str

    @classmethod
    def of(cls, domain: str, prefix: str) -> "Topics":
        """Return the names of a domain's topics in a fleet whose topics begin with `prefix`."""
        kinds = ("commands", "replies", "events", "stored", "snapshots", "dead-letters", "parked")
        return cls(domain, *(f"{prefix}{domain}.{kind}" for kind in kinds))

    def __iter__(self) -> Iterator[str]:
        yield from astuple(self)[1:]


def consumer_group(prefix: str, domain: str, role: str) -> str:
    """Return the name of the consumer group of one role of one domain."""
    return f"{prefix}.{domain}.{role}"


def wire_name(kind: type | str) -> str:
    """Return the name of a payload's class on the wire, given as the class or as the name itself.

    It is the class's own name; for an event, its `event_type` where the class declares one.
    """
    if isinstance(kind, str):
        return kind
    declared = kind.__dict__.get("event_type")
    return declared if isinstance(declared, str) else kind.__name__
