"""ParkingWarnings: the log lines about what a role parks in a partition, bounded in number."""

import logging
from collections import Counter
from collections.abc import Collection
from typing import Any

from eventfleet.topics.parked import ParkedAggregate

MAX_REASONS = 100
MAX_NAMED = 20
"""How many parked aggregates of one reason are named in the log; an operator lists the others."""
OTHER_REASONS = "for other reasons"


class ParkingWarnings:
    """Names the first aggregates of each reason; of the others it logs the number."""

    def __init__(self, logger: logging.Logger, domain: str, role: str, partition: int) -> None:
        self._logger, self._place = logger, (role, domain, partition)
        self._fields = {"domain": domain, "role": role, "partition": partition}
        self._reasons: Counter[str] = Counter()
        self._unnamed: Counter[str] = Counter()

    def log(self, text: str, *arguments: object, **fields: Any) -> None:
        text = f"%s of %s, partition %d{text}"
        self._logger.warning(text, *self._place, *arguments, extra=self._fields | fields)

    def log_parked(self, parked: ParkedAggregate, correlation_id: str | None) -> None:
        """Log what is parked; the team's lines of the traceback once for each reason."""
        reason = parked.reason
        if reason not in self._reasons and len(self._reasons) >= MAX_REASONS:
            reason = OTHER_REASONS
        self._reasons[reason] += 1
        if self._reasons[reason] > MAX_NAMED:
            self._unnamed[reason] += 1
            return
        told = reason == OTHER_REASONS or self._reasons[reason] > 1
        self.log(
            " parks %r at version %d, %s %s: %s%s",
            *(parked.aggregate_id, parked.first, parked.event_type, parked.event_id),
            *(parked.reason, "" if told else f"\n{parked.details}"),
            **event_fields(parked),
            correlation_id=correlation_id,
        )

    def log_saved(self, ended: Collection[str]) -> None:
        """Log the numbers of those not named, and whose parking has ended."""
        for reason, count in self._unnamed.items():
            self.log(" parks %d more aggregates: %s", count, reason)
        self._unnamed.clear()
        for key in sorted(ended)[:MAX_NAMED]:
            self.log(" parks %r no longer", key, aggregate_id=key)
        if (more := len(ended) - MAX_NAMED) > 0:
            self.log(" parks %d more aggregates no longer", more)

    def begin(self, untried: int) -> None:
        """Forget what was not logged; log how many aggregates come unasked."""
        self._unnamed.clear()
        if untried:
            self.log(" will try again %d aggregates that another process has parked", untried)


def event_fields(parked: ParkedAggregate) -> dict[str, Any]:
    """Return the fields of a log line about the first event of a parked aggregate."""
    return {
        "aggregate_id": parked.aggregate_id,
        "event_id": parked.event_id,
        "event_type": parked.event_type,
        "version": parked.first,
    }
