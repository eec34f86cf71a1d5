"""The names of the channels that a followed domain's processes talk to each other over."""

from functools import lru_cache
from typing import NamedTuple

PREFIX = "eventfleet.feeds"


class ChannelNames(NamedTuple):
    """The names of one domain's channels; those of `outcomes` and `claims` have an end each."""

    commands: str
    events: str
    outcomes: str
    claims: str

    @classmethod
    @lru_cache(maxsize=1024)
    def of(cls, domain: str) -> "ChannelNames":
        """Return the names of a domain's channels."""
        kinds = ("commands", "events", "outcomes.", "claims.")
        return cls(*(f"{PREFIX}.{domain}.{kind}" for kind in kinds))
