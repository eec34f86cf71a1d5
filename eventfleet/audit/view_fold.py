"""Folds a view in one aggregate, as a partition would that has this aggregate alone."""

from collections.abc import Callable
from typing import Any

from eventfleet.audit.view_comparison import ViewComparison
from eventfleet.model.folded_view import FoldedView
from eventfleet.model.views import ProjectedEvent, View

MAX_ROWS = 100_000
"""The most rows of one aggregate that are held in memory."""


class TooManyRows(Exception):
    """An aggregate has more rows than are held in memory."""


class ViewFold:
    """The rows and totals of one view in one aggregate.

    `compared`: the comparison that gets them as of the point of the view's build.
    """

    def __init__(
        self,
        view: View[Any],
        aggregate_id: str,
        partition: int,
        compared: ViewComparison | None = None,
    ) -> None:
        self._id, self._partition, self._comparison = aggregate_id, partition, compared
        self.folded = FoldedView(view)
        self.broken = False
        self._version, self._marked = 0, False

    @property
    def called(self) -> Callable[..., Any]:
        """The function of the view that was called last."""
        return self.folded.called

    def apply(self, event: ProjectedEvent) -> None:
        """Apply the next event; an error of the view's functions passes through, the first one.

        TooManyRows. After an error later events change nothing.
        """
        if self.broken:
            return
        self.pass_over(event)
        try:
            self.folded.apply(event, self._partition)
            if len(self.folded.rows) > MAX_ROWS:
                raise TooManyRows
        except Exception:
            self.give_up()
            raise

    def pass_over(self, event: ProjectedEvent, *, marked: bool = False) -> None:
        """Go on behind an event that changes nothing.

        One that is `marked` as discarded may have been applied before it was.
        """
        if self._comparison and not self._comparison.covers(event):
            self._compare(self._comparison)
        self._marked = self._marked or marked
        self._version = event.version

    def give_up(self) -> None:
        """Stop at an event that can't be applied."""
        self.broken = True
        if self._comparison:
            self._comparison.skip(self._id, self._partition)
        self._comparison = None

    def end(self) -> None:
        """End with the last event."""
        if self._comparison:
            self._compare(self._comparison)

    def _compare(self, comparison: ViewComparison) -> None:
        marked_in = self._partition if self._marked else None
        comparison.add(self._id, self._version, self.folded, marked_in)
        self._comparison = None
