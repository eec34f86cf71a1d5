"""Declaration: what a team declares of a domain, as it stands in the domain's file."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

from eventfleet.model.command_rules import CommandRule, Decide, Emits, event_types, takes_context
from eventfleet.model.followed import Followed
from eventfleet.model.payloads import Data, Event, State
from eventfleet.model.views import ProjectedEvent, View
from eventfleet.snapshot_rules import Rule
from eventfleet.topics.names import Topics, wire_name

Upcaster = Callable[[Data], Data]
S = TypeVar("S", bound=State)


def any_event(event: ProjectedEvent) -> bool:
    """Accept every event; the default filter of a route."""
    return True


@dataclass(frozen=True)
class Route:
    """A route: events of `types` for which `when` holds go to the topic `to`.

        Route("finance.ledger", types=[Paid], when=lambda event: event.data.amount > 1_000)

    `types` is any collection of event types; an empty one stands for all. `when` gets the event as
    a view's functions get it: a ProjectedEvent, whose `data` is the payload in its newest schema
    (SchemalessPayload in a schema-free domain). Events keep their key, and so their version order
    per aggregate. In a fleet with a topic prefix the topic's name begins with it, too.
    DeclarationError: `types` is not a collection, or is a string.
    """

    to: str
    types: Collection[type[Event] | str] = frozenset()
    when: Callable[[Any], bool] = any_event

    def __post_init__(self) -> None:
        types = event_types(f"Route({self.to!r}): types", self.types)
        object.__setattr__(self, "types", types)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the types."""
        return frozenset(map(wire_name, self.types))

    @property
    def is_conditional(self) -> bool:
        """True with a `when`, which needs the payload."""
        return self.when is not any_event

    def takes(self, event: ProjectedEvent) -> bool:
        """Return whether `when` holds; its errors pass through. TypeError: it gave no answer."""
        answer = self.when(event)
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise TypeError(f"`when` returned {type(answer).__name__}, which always holds")
        return bool(answer)


@dataclass(frozen=True)
class Declaration(Generic[S]):
    """The parts of a domain's declaration; a Domain is one that has been checked."""

    name: str
    state: type[S]
    evolve: Callable[[S, Any], S]
    events: Sequence[type[Event]] = ()
    upcasters: Mapping[type[Event], Sequence[Upcaster]] = field(default_factory=dict)
    snapshot: Rule | None = None
    routes: Sequence[Route] = ()
    views: Sequence[View[Any]] = ()
    state_version: int = 1
    commands: Sequence[CommandRule] = ()
    decide: Decide | None = None
    followed: Followed | None = None
    _topic_prefix: str = field(default="", kw_only=True, repr=False)

    @cached_property
    def topics(self) -> Topics:
        """The names of the domain's own topics."""
        return Topics.of(self.name, self._topic_prefix)

    @cached_property
    def targets(self) -> Sequence[str]:
        """The names of the topics that the routes write to, in order."""
        return sorted(route.to for route in self.routes)

    @cached_property
    def schema_free(self) -> bool:
        """True for a domain without declared events."""
        return not self.events

    @cached_property
    def emits(self) -> list[Emits]:
        """The rules of commands that become one event of the same fields."""
        return [rule for rule in self.commands if isinstance(rule, Emits)]

    @cached_property
    def takes_context(self) -> bool:
        """True when `decide` takes a CommandContext."""
        return self.decide is not None and takes_context(self.decide)

    @cached_property
    def uses_marker(self) -> bool:
        """True when a command has `after`, a rule on the marker."""
        return any(rule.after is not None for rule in self.emits)
