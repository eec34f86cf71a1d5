"""Shares: a limit on what all callers hold together, and the part of it that one may hold."""

from types import TracebackType
from typing import Self

from eventfleet.topics.errors import EventfleetError


class LimitReached(EventfleetError):
    """There is no room within a limit, or within a caller's share of it."""


class Shares:
    """A limit on what all callers hold together; one may hold `share`, by default half.

    `name` is the limit's, for errors. The caller None may hold all: so it is where callers can't be
    told apart. Pure.
    """

    def __init__(self, limit: int, name: str, share: int | None = None) -> None:
        self.limit, self.share = limit, (limit + 1) // 2 if share is None else share
        self.held = 0
        self._name = name
        self._held_by: dict[str, int] = {}

    def hold(self, caller: str | None, amount: int = 0) -> "HeldShare":
        """Hold an amount, and what is taken besides, for the length of a `with`. LimitReached."""
        return HeldShare(self, caller, amount)

    def take(self, caller: str | None, amount: int) -> None:
        """LimitReached: nothing is taken."""
        of_caller = 0 if caller is None else self._held_by.get(caller, 0) + amount
        if of_caller > self.share:
            limit = f"{self.share} of {self.limit}"
            raise LimitReached(f"the limit of one caller is {limit} {self._name}")
        if self.held + amount > self.limit:
            raise LimitReached(f"the limit is {self.limit} {self._name}")
        self.held += amount
        if caller is not None:
            self._held_by[caller] = of_caller

    def give_back(self, caller: str | None, amount: int) -> None:
        self.held -= amount
        if caller is not None and (left := self._held_by.pop(caller, 0) - amount):
            self._held_by[caller] = left


class HeldShare:
    """The part of a limit that one request or socket holds."""

    __slots__ = ("_amount", "_caller", "_shares")

    def __init__(self, shares: Shares, caller: str | None, amount: int) -> None:
        self._shares, self._caller, self._amount = shares, caller, amount

    def __enter__(self) -> Self:
        self._shares.take(self._caller, self._amount)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, where: TracebackType | None
    ) -> None:
        self._shares.give_back(self._caller, self._amount)

    def take(self, amount: int) -> None:
        """Hold more. LimitReached: no more than before."""
        self._shares.take(self._caller, amount)
        self._amount += amount
