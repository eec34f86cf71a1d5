"""OwnerOutage: what an owner waits for, since when, and what the log has of it."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eventfleet.roles.role import RecordsRemoved
from eventfleet.stores.errors import DoubtfulOffset, TopicRefused
from eventfleet.stores.retry import OUTAGE


@dataclass(frozen=True)
class OwnerTimeouts:
    """The bounds of an owner's waits, in seconds; a server that is away is waited for without end.

    `refused`: how long a topic may be refused before the partition stands still; a broker that has
    just started does not know its topics for a moment. `doubted`: how long an offset that looks
    lost or wrong is asked for again, before that counts; `removed`: one whose next records the log
    no longer keeps, as the log itself says. `in_hand`: what a close allows the chunk in hand.
    `tick`: between two ticks, `rest_tick` at rest. `fenced`: from a fence until the partition, if
    it is still assigned, is taken over again. `longest_pause`: between two retries.
    """

    refused: float = 10.0
    doubted: float = 0.0
    removed: float = 0.0
    in_hand: float = 10.0
    tick: float = 1.0
    rest_tick: float = 10.0
    fenced: float = 10.0
    longest_pause: float = OUTAGE.longest_seconds

    def patience(self, error: Exception) -> float | None:
        """The seconds for which an error may last; None for ever."""
        if isinstance(error, TopicRefused):
            return self.refused
        if isinstance(error, RecordsRemoved):
            return self.removed
        return self.doubted if isinstance(error, DoubtfulOffset) else None


class OwnerOutage:
    """The trouble of one owner.

    `waits_for` is why its last turn failed, while it is tried again; `since` when that began, on
    the steady clock. A trouble that was given up ends when the role is open again.
    """

    def __init__(
        self,
        logger: logging.Logger,
        name: str,
        fields: Mapping[str, Any],
        timeouts: OwnerTimeouts,
        stopped_at: float | None,
    ) -> None:
        """`stopped_at`: when a fault stopped the owner before this one."""
        self._logger, self._name, self._fields = logger, name, fields
        self._timeouts = timeouts
        self.waits_for = ""
        self.since = self._failed_at = time.monotonic()
        self._refused_since: float | None = None
        self._given_up_at = stopped_at
        self._level = logging.WARNING if stopped_at is None else logging.ERROR

    def begin(self, error: Exception) -> None:
        """Note the first failure of a turn."""
        self._refused_since = None
        self.note(error)
        self.since = self._failed_at
        self.warn("will be opened again: %s", self.waits_for)

    def note(self, error: Exception) -> None:
        """Note a failure. Advice is for a lost offset, not for a doubtful one."""
        self.waits_for = str(error)
        if isinstance(error, DoubtfulOffset):
            self.waits_for = f"{error.finding}; it is asked for again before that counts"
        self._failed_at = time.monotonic()

    def is_given_up(self, error: Exception) -> bool:
        """Check that a topic was refused, or an offset doubtful, for too long in one go.

        A server is never given up.
        """
        patience = self._timeouts.patience(error)
        if patience is None:
            self._refused_since = None
            return False
        self._refused_since = self._refused_since or time.monotonic()
        return time.monotonic() - self._refused_since >= patience

    def called_within(self, bound: float) -> bool:
        """Return whether what is waited for was called within `bound` seconds."""
        return bool(self.waits_for) and time.monotonic() - self._failed_at <= bound

    def end(self) -> None:
        """Wait for nothing any more."""
        self.waits_for = ""

    def log_end(self) -> None:
        self._log_recovery("is well again", self.since)

    def give_up(self, error: Exception) -> None:
        """Note that the partition is given up until it is open again."""
        self.end()
        self._given_up_at = time.monotonic()
        self.warn("is given up: %s", error)

    def note_open(self) -> None:
        """Note that the role is open, which ends what was given up."""
        if self._given_up_at is not None:
            self._log_recovery("is open again", self._given_up_at)
            self._given_up_at, self._level = None, logging.WARNING

    def warn(self, text: str, *arguments: object) -> None:
        self._logger.warning(f"%s {text}", self._name, *arguments, extra=self._fields)

    def _log_recovery(self, what: str, since: float) -> None:
        """Log it at the level of the trouble, so that a log has both or neither."""
        seconds, text = time.monotonic() - since, "%s %s after %.1f s"
        self._logger.log(self._level, text, self._name, what, seconds, extra=self._fields)
