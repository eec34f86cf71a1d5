"""Refusals: the servers that refuse what every command needs, as this process' own calls show.

An operation is refused once REFUSED_CALLS calls in a row have failed, over REFUSED_SECONDS at
least, and until one succeeds. So one failed call of many is no refusal. Of an operation that nobody
has called for REST_SECONDS nothing is known.
"""

import logging
from time import monotonic
from typing import Final

from eventfleet.stores.errors import Misconfigured, RecordsTooLarge, ServerUnavailable

REFUSED_CALLS = 3
REFUSED_SECONDS = 1.0
REST_SECONDS = 15.0

logger = logging.getLogger(__name__)


class OperationRefusals:
    """The failed calls of one operation since its last success."""

    def __init__(self, server: str, name: str) -> None:
        self.server, self.name = server, name
        self._failures = 0
        self._first_at = self._last_at = 0.0
        self._told = False

    def note_success(self) -> None:
        if self._failures:
            self._failures = 0
            if self._told:
                logger.warning("%s takes %s again", self.server, self.name)
                self._told = False

    def note_failure(self, error: BaseException) -> None:
        """Note a failed call; a refusal of one record for its size says nothing about others."""
        if not isinstance(error, ServerUnavailable | Misconfigured):
            return
        if isinstance(error, RecordsTooLarge):
            return
        now = monotonic()
        if not self._failures or now - self._last_at > REST_SECONDS:
            self._failures, self._first_at = 0, now
        self._failures += 1
        self._last_at = now
        if self.is_refused and not self._told:
            self._told = True
            text = "%s refuses %s, each of several times: %s"
            logger.warning(text, self.server, self.name, error)

    @property
    def is_refused(self) -> bool:
        lasted = self._last_at - self._first_at >= REFUSED_SECONDS
        rested = monotonic() - self._last_at > REST_SECONDS
        return self._failures >= REFUSED_CALLS and lasted and not rested


OF_COMMANDS: Final = {
    ("kafka", "produce"): OperationRefusals("Kafka", "produce"),
    ("mongodb", "put"): OperationRefusals("MongoDB", "put"),
    ("redis", "note_owner"): OperationRefusals("Redis", "note_owner"),
    ("redis", "mark"): OperationRefusals("Redis", "mark"),
    ("redis", "claim"): OperationRefusals("Redis", "claim"),
}
"""The operations that every command needs, each in some domains."""


def refused_operations(server: str | None = None) -> list[str]:
    """Name the refused operations of a server ("Kafka"), or of all: "MongoDB refuses put"."""
    return [
        f"{each.server} refuses {each.name}"
        for each in OF_COMMANDS.values()
        if each.is_refused and server in (None, each.server)
    ]
