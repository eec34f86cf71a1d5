"""The marker protocol with one rule taken out each."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from eventfleet.deciders.lag_guard import LagGuard
from eventfleet.deciders.marker_decider import Marking
from eventfleet.deciders.pending_command import Answer, Intent, Pending
from eventfleet.stores.contracts import Life, Mark, Marked, Note
from eventfleet.stores.marker_timeouts import Terms
from eventfleet.stores.memory.markers import Data, Marker, MemoryRedis


class KeepsNobodyWaiting(MemoryRedis):
    """Without: another's pending note must be finished first."""

    def _decide(self, key: Any, marker: Marker, mark: Mark, terms: Terms, now: float) -> Marked:
        if marker.note and marker.note.event_id != mark.event_id:
            marker = replace(marker, note=None)
        return super()._decide(key, marker, mark, terms, now)


class ClearsWhateverStands(MemoryRedis):
    """Without: a note is cleared only by who names it exactly."""

    def confirm(self, domain: str, note: Note, life: Life, terms: Terms) -> bool:
        marker = self.data.markers.get((domain, note.aggregate_id))
        if marker and marker.note:
            note = note._replace(event_id=marker.note.event_id, prev=marker.note.prev)
        return super().confirm(domain, note, life, terms)


class LetsNotesExpire(MemoryRedis):
    """Without: a marker does not expire while a note stands."""

    def _decide(self, key: Any, marker: Marker, mark: Mark, terms: Terms, now: float) -> Marked:
        marked = super()._decide(key, marker, mark, terms, now)
        after = self.data.markers[key]
        if after.note and after != marker:
            self.data.markers[key] = replace(after, until=now + terms.expiry)
        return marked


class TrustsTheStore(LagGuard):
    """Without: the store is asked only when append is surely past what matters."""

    def holds(self, partition: int, life: Life) -> bool:
        return True


class TakesOldLooks(MemoryRedis):
    """Without: what was seen before the marker was born, or long ago, does not count."""

    def mark(self, domain: str, mark: Mark, terms: Terms) -> Marked:
        now = mark.life._replace(now=self._time())
        return super().mark(domain, mark._replace(life=now), terms)


class ForgetsIds(MemoryRedis):
    """Without: the ids of this life's events are remembered."""

    def _done(self, domain: str, event_id: str, life: Life, now: float) -> bool:
        return False


class LivesOn(MemoryRedis):
    """Without: another run of the server is another life."""

    def restart(self, dump: Data | None = None) -> None:
        super().restart(dump)
        self._run -= 1


class IsAlwaysSure(MemoryRedis):
    """Without: in a young life append has the last word."""

    def _born(self, mark: Mark, terms: Terms, now: float) -> Marker:
        return replace(super()._born(mark, terms, now), tentative=False)


class LeavesNewOnesUnlooked(Marking):
    """Without: the id of a new command is looked up from its first mark on."""

    _new: frozenset[str] = frozenset()

    async def decide(self, intents: Sequence[Intent], deadline: datetime, answer: Answer) -> None:
        self._new |= {intent.event.id for intent in intents if intent.new}
        await super().decide(intents, deadline, answer)

    async def _unknown(self, ready: Sequence[Pending]) -> Sequence[Pending]:
        unknown = await super()._unknown([p for p in ready if p.event.id not in self._new])
        return [*unknown, *(p for p in ready if p.event.id in self._new)]


class ProducesLate(Marking):
    """Without: a note that the deadline has overtaken is not produced."""

    async def _round(self, turn: Sequence[Pending], deadline: datetime) -> bool:
        return await super()._round(turn, datetime.max.replace(tzinfo=UTC))
