"""AggregateFactory: makes empty aggregates of the registered types."""

from collections.abc import Callable
from typing import Any, TypeVar, overload

from eventfleet.aggregates.aggregate import Aggregate
from eventfleet.aggregates.errors import AlreadyRegistered, NotRegistered

A = TypeVar("A", bound=Aggregate[Any])
Delegate = Callable[[str], Aggregate[Any]]
"""Makes an empty aggregate of one type from its id."""


class AggregateFactory:
    """Makes an empty aggregate by the name of its type, or by its class.

    factory = AggregateFactory()
    factory.register(User)
    factory.register(Order, lambda id: Order(id, prices))
    factory.create("User", "user123")
    """

    def __init__(self) -> None:
        self._delegates: dict[str, Delegate] = {}

    def register(self, kind: type[A], delegate: Callable[[str], A] | None = None) -> None:
        """Register a type with the delegate that makes its aggregates, by default the class itself.

        AlreadyRegistered: a type of this name is.
        """
        if kind.__name__ in self._delegates:
            raise AlreadyRegistered("aggregate", kind.__name__)
        self._delegates[kind.__name__] = delegate or kind

    @overload
    def create(self, kind: type[A], id: str) -> A: ...

    @overload
    def create(self, kind: str, id: str) -> Aggregate[Any]: ...

    def create(self, kind: type[A] | str, id: str) -> A | Aggregate[Any]:
        """Make an empty aggregate. NotRegistered: nobody makes this type.

        TypeError: the delegate made something else, or an aggregate of another id.
        """
        name = kind if isinstance(kind, str) else kind.__name__
        delegate = self._delegates.get(name)
        if delegate is None:
            raise NotRegistered("aggregate", name, self._delegates)
        made = delegate(id)
        wanted = Aggregate if isinstance(kind, str) else kind
        if not isinstance(made, wanted) or made.id != id:
            raise TypeError(f"the delegate of {name} made {made!r}, not the {name} {id!r}")
        return made
