"""The errors of commands and aggregates' types that are registered wrongly."""

from collections.abc import Collection

from eventfleet.topics.errors import EventfleetError


class NotRegistered(EventfleetError):
    """Nothing is registered for `name`, a command or an aggregate's type; `known` are those with.

    `kind` is `command` or `aggregate`.
    """

    def __init__(self, kind: str, name: str, known: Collection[str]) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(f"{kind} {name!r} is not registered; registered: {names}")
        self.kind, self.name, self.known = kind, name, frozenset(known)


class AlreadyRegistered(EventfleetError):
    """`name`, a command or an aggregate's type, has its handler or delegate already.

    `kind` is `command` or `aggregate`.
    """

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name!r} is registered already, and can be only once")
        self.kind, self.name = kind, name
