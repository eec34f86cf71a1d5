"""The topics of a domain and the consumer groups that read them."""

from functools import lru_cache
from typing import NamedTuple

TOPIC_NAME = r"(?!\.{1,2}\Z)[a-zA-Z0-9._-]{1,249}"


class Topics(NamedTuple):
    """The names of one domain's topics."""

    commands: str
    replies: str
    events: str
    stored: str
    snapshots: str
    dead_letters: str

    @classmethod
    @lru_cache(maxsize=1024)
    def of(cls, domain: str) -> "Topics":
        kinds = ("commands", "replies", "events", "stored", "snapshots", "dead-letters")
        return cls(*(f"{domain}.{kind}" for kind in kinds))


def consumer_group(prefix: str, domain: str, role: str) -> str:
    """The consumer group of one role of one domain."""
    return f"{prefix}.{domain}.{role}"
