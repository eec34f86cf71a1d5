"""Topic faults: the topics that are not as a domain needs them, as metrics and readiness tell."""

from collections.abc import Iterable
from typing import NamedTuple


class TopicFault(NamedTuple):
    """A topic of a domain, and in a sentence what is wrong and what to do."""

    domain: str
    topic: str
    text: str


_faults: list[TopicFault] = []


def replace_topic_faults(faults: Iterable[TopicFault]) -> None:
    """Keep these in the place of those before."""
    _faults[:] = sorted(faults)


def topic_faults() -> list[TopicFault]:
    """Return the faults of this process, by domain and topic."""
    return [*_faults]
