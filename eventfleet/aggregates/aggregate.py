"""Aggregate: a business object that checks its rules and raises events."""

from typing import Any, ClassVar, Generic, TypeVar, cast

import msgspec

from eventfleet.model.domain import Domain
from eventfleet.model.errors import DeclarationError
from eventfleet.model.payloads import Event, State
from eventfleet.model.value_copy import copy_value
from eventfleet.states.live_state import LiveState
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import wire_name

S = TypeVar("S", bound=State)

_clock, _ids = SystemClock(), Uuid7Generator()


class Aggregate(Generic[S]):
    """Base of a team's aggregates: methods check rules on `state`, and raise events.

        class User(Aggregate[UserState]):
            domain = users

            def change_email(self, email: str) -> None:
                if email != self.state.email:
                    self.raise_event(EmailChanged(email=email))

    The domain declares the events, the state, and how one folds into the other. What a method
    raises when a rule forbids something is the team's own. One task works on an aggregate at a
    time.
    """

    domain: ClassVar[Domain[Any]]

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        domain = getattr(cls, "domain", None)
        if domain is not None and domain.schema_free:
            raise DeclarationError(
                f"aggregate {cls.__name__}: domain {domain.name} declares no events: list them in "
                "`events`"
            )

    def __init__(self, id: str) -> None:
        """Make an empty aggregate, at version 0. DeclarationError: the class has no `domain`."""
        if getattr(self, "domain", None) is None:
            raise DeclarationError(
                f"aggregate {type(self).__name__} has no domain: give the class `domain = ...`"
            )
        self.restore(LiveState(id, self.domain.first_state()))
        self._committed_for = ""

    @property
    def id(self) -> str:
        """The aggregate's id."""
        return self.live.aggregate_id

    @property
    def state(self) -> S:
        """The state after all events, the uncommitted ones too, as a copy where it is mutable."""
        return cast(S, copy_value(self.live.state))

    @property
    def version(self) -> int:
        """The number of events, the uncommitted ones too."""
        return self.live.version

    @property
    def expected_version(self) -> int:
        """The stored version that the uncommitted changes are based on; 0 for a new aggregate."""
        return self.live.version - len(self._changes)

    @property
    def uncommitted_changes(self) -> tuple[Event, ...]:
        """The events raised and not stored yet, the oldest first, as they were raised."""
        return tuple(map(copy_value, self._changes))

    def raise_event(self, event: Event) -> None:
        """Record that the event happened, and fold it into the state; `save` stores it.

        InvalidRecord: the domain does not declare the event, or a field is invalid. ReplayFailed:
        `evolve` raised. ValueError: a save is unanswered. Each leaves the aggregate as it was.
        """
        if self.unanswered:
            raise ValueError(
                f"{self._name} may have been saved, but the store gave no answer: save it again "
                "before it raises more events, or load it again"
            )
        kind = wire_name(type(event))
        record = EventRecord(
            id=self.commit_id,
            type=kind,
            domain=self.domain.name,
            aggregate_id=self.id,
            time=_clock.now(),
            data=msgspec.to_builtins(event, str_keys=True),
            schema_version=self.domain.latest_schema_version(kind),
            version=self.version + 1,
        )
        self.domain.check(record)
        self.live.fold(self.domain, record)
        self._changes.append(copy_value(event))

    def apply(self, event: EventRecord) -> None:
        """Fold the next stored event into the state.

        ReplayFailed: `evolve` or an upcaster raised. ServerUnavailable: it is not the next version.
        ValueError: there are uncommitted changes, which it can't come after.
        """
        if self._changes:
            raise ValueError(f"{self._name} has uncommitted changes: save it, or load it again")
        self.live.fold(self.domain, event)

    def restore(self, live: LiveState) -> None:
        """Go on from a live state of this aggregate, as it is stored; uncommitted changes go."""
        self.live = live
        self._changes: list[Event] = []
        self._begin_commit()

    def mark_committed(self, command_id: str = "") -> None:
        """Note that the uncommitted changes are stored; `command_id` is that of their command."""
        self._changes.clear()
        self._committed_for = command_id
        self._begin_commit()

    def is_committed_for(self, command_id: str) -> bool:
        """Return whether the last changes were stored for this command."""
        return command_id == self._committed_for

    def _begin_commit(self) -> None:
        """Begin the next commit: the ids of its events derive from `commit_id`, or from a command.

        `unanswered`: it is unknown whether the store has them, so that no event may join them.
        """
        self.commit_id, self.unanswered = _ids.new(), False

    @property
    def _name(self) -> str:
        return f"{self.domain.name} {self.id!r}"
