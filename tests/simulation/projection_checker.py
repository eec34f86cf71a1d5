"""What views promise, said without the role: each answer is what some of the events give."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from eventfleet.model.view_rows import decode_row
from eventfleet.model.views import Row, View
from eventfleet.stores.contracts.views import StoredRow
from tests.simulation.checker import BrokenInvariant
from tests.unit.view_fixture import Account, Placed, folded, totalled

Answer = Account | None
Table = Mapping[str, StoredRow]
SEPARATOR = "\0"


def answer_of(stored: StoredRow | None) -> Answer:
    """What a query of a row says."""
    return None if stored is None or stored.fields is None else decode_row(Account, stored.fields)


class Histories:
    """What has happened, and what each account was after each of its events, by view."""

    def __init__(self, views: Iterable[View[Account]]) -> None:
        self.happened: list[Placed] = []
        self._views = {view.version: view for view in views}
        self._answers: dict[tuple[int, str], list[Answer]] = {}

    def add(self, event: Placed) -> None:
        self.happened.append(event)
        for version, view in self._views.items():
            answers = self.answers(version, event.aggregate_id)
            answers.append(view.project(answers[-1], event))

    def answers(self, view: int, aggregate_id: str) -> list[Answer]:
        """What an account was in a version of the view: before all events, after one, and so on."""
        return self._answers.setdefault((view, aggregate_id), [None])

    def version(self, aggregate_id: str) -> int:
        return len(self.answers(min(self._views), aggregate_id)) - 1


class Reader:
    """One that sees each change of the live build at once.

    `poisoned` accounts may be parked: what a reader sees of them may be of before.
    """

    def __init__(self, histories: Histories, poisoned: Collection[str] = ()) -> None:
        self._histories, self._poisoned = histories, poisoned
        self.seen: dict[str, int] = {}  # by account, the least version that explains the answer

    def see(self, view: int, aggregate_id: str, answer: Answer) -> None:
        """See a row of the live build change."""
        if aggregate_id in self._poisoned:
            return
        least = self.seen.get(aggregate_id, 0)
        self.seen[aggregate_id] = self.explain(view, aggregate_id, answer, least, "a row went back")

    def flip(self, view: int, table: Table, needed: Mapping[str, int]) -> None:
        """See another build, which must have what is `needed`: a version of each account."""
        seen, self.seen = self.seen, {}
        accounts = {*seen, *needed, *(id.partition(SEPARATOR)[0] for id in table)}
        for aggregate_id in accounts.difference(self._poisoned):
            answer = answer_of(table.get(aggregate_id + SEPARATOR))
            least = needed.get(aggregate_id, 0)
            self.seen[aggregate_id] = self.explain(
                view, aggregate_id, answer, least, "a flip to less"
            )

    def explain(self, view: int, aggregate_id: str, answer: Answer, least: int, kind: str) -> int:
        """Return the first version from `least` on that an answer is right for."""
        answers = self._histories.answers(view, aggregate_id)
        for version in range(least, len(answers)):
            if answers[version] == answer:
                return version
        kind = kind if answer in answers[:least] else "a row that no events give"
        raise BrokenInvariant(kind, f"{aggregate_id} is {answer} at {least} or later: {answers}")


def check_rows(
    view: View[Any], table: Table, happened: Sequence[Placed], unless: Collection[str] = ()
) -> None:
    """The rows are what the events give, each applied once and in order; some may be left out."""
    happened = [event for event in happened if event.aggregate_id not in unless]
    found = {
        id: decode_row(view.row, each.fields)
        for id, each in table.items()
        if each.fields is not None and id.partition(SEPARATOR)[0] not in unless
    }
    rows = {
        aggregate_id + SEPARATOR + key: r
        for (aggregate_id, key), r in folded(view, happened).items()
    }
    if found != rows:
        raise BrokenInvariant("rows that the events do not give", f"{found}, expected {rows}")


def check_totals(view: View[Any], tables: Mapping[str, Table], happened: Sequence[Placed]) -> None:
    """The merged parts are what the rows give, added from scratch."""
    rows = folded(view, happened).values()
    for totals in view.totals:
        merged: dict[Row, Row] = {}
        for each in tables[totals.name].values():
            if each.fields is not None:
                part = decode_row(totals.row, each.fields)
                empty = totals.row(**{name: getattr(part, name) for name in totals.by})
                merged[empty] = totals.merge(merged.get(empty, empty), part)
        found = {empty: total for empty, total in merged.items() if total != empty}
        if found != totalled(totals, rows):
            wanted = totalled(totals, rows)
            raise BrokenInvariant("totals that the rows do not give", f"{found}, expected {wanted}")
