"""Views whose functions raise on some events, until the code is mended."""

from dataclasses import replace as with_changes
from random import Random
from typing import Any

from eventfleet.model.views import Row, Totals, View
from tests.unit.view_fixture import Account, Closed

OF_VERSION_TWO = "project of version 2"
CODES = ("project", "key", OF_VERSION_TWO, "trail", "key of trail", "row")
"""What raises; "row": a row is made that no store keeps."""

ADD = "add"
"""A row is made that is not added to totals. It is another one once the code is mended, which a
redrive is for, but no crash."""


class Trail(Row):
    """The events that made a row what it is."""

    versions: tuple[int, ...]


def project_trail(row: Trail | None, event: Any) -> Trail | None:
    if isinstance(event.data, Closed):
        return None
    return Trail(versions=(*(row.versions if row else ()), event.version))


TRAILS = View(
    "trails",
    row=Trail,
    project=project_trail,
    key=lambda event: "third" if event.version % 3 == 0 else "",
)
"""A view without totals, which shows each event that was left out, or applied out of order."""


class PoisonedCode:
    """`poisoned`: the accounts that have an event on which code raises."""

    def __init__(self) -> None:
        self.mended = False
        self.poisoned: set[str] = set()
        self._events: dict[tuple[str, int], str] = {}
        self._random, self._codes = Random(0), CODES

    def renew(self, random: Random, *more: str) -> "PoisonedCode":
        """Begin with code that raises on nothing yet."""
        self.mended, self._random, self._codes = False, random, (*CODES, *more)
        self._events, self.poisoned = {}, set()
        return self

    def raise_only(self, code: str) -> None:
        """Begin with one code that is poisoned from now on."""
        self._codes = (code,)

    def poison(self, aggregate_id: str, version: int) -> None:
        """From now on something raises on an event."""
        self.poisoned.add(aggregate_id)
        self._events[aggregate_id, version] = self._random.choice(self._codes)

    def _check(self, event: Any, *codes: str) -> None:
        if self._raises(event, *codes):
            raise ZeroDivisionError("by nought")

    def _raises(self, event: Any, *codes: str) -> bool:
        found = self._events.get((event.aggregate_id, event.version))
        return not self.mended and found in codes

    def accounts(self, view: View[Account]) -> View[Account]:
        """The accounts as code keeps them that may be poisoned."""

        def key(event: Any) -> str | None:
            self._check(event, "key")
            return view.key(event)

        def project(row: Account | None, event: Any) -> Account | None:
            self._check(event, "project", f"project of version {view.version}")
            after = view.project(row, event)
            if after is not None and self._raises(event, "row"):
                return with_cents(after, 2**63)
            if after is not None and after.owner != "nobody" and self._raises(event, ADD):
                return with_cents(after, 2**62 + after.cents)
            return after

        [totals] = view.totals
        return with_changes(view, key=key, project=project, totals=[self._totals(totals)])

    def _totals(self, totals: Totals[Any, Any]) -> Totals[Any, Any]:
        def add(total: Any, row: Account) -> Any:
            if row.cents >= 2**62:
                raise ZeroDivisionError("by nought")
            return totals.add(total, row)

        return with_changes(totals, add=add)

    def trails(self, view: View[Trail]) -> View[Trail]:
        """The same of trails."""

        def key(event: Any) -> str | None:
            self._check(event, "key of trail")
            return view.key(event)

        def project(row: Trail | None, event: Any) -> Trail | None:
            self._check(event, "trail")
            return view.project(row, event)

        return with_changes(view, key=key, project=project)


def with_cents(row: Account, cents: int) -> Account:
    return Account(owner=row.owner, cents=cents)
