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
        self.name = name
        self.held_by: dict[str, int] = {}

    def hold(self, caller: str | None, amount: int = 0) -> "HeldShare":
        """Hold an amount, and what is taken besides, for the length of a `with`. LimitReached."""
        return HeldShare(self, caller, amount)


class HeldShare:
    """The part of a limit that one request or socket holds."""

    __slots__ = ("_amount", "_caller", "_held", "_shares")

    def __init__(self, shares: Shares, caller: str | None, amount: int) -> None:
        self._shares, self._caller, self._amount, self._held = shares, caller, amount, 0

    def __enter__(self) -> Self:
        self.take(self._amount)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, where: TracebackType | None
    ) -> None:
        caller, shares, given_back, self._held = self._caller, self._shares, self._held, 0
        shares.held -= given_back
        if caller is not None and (left := shares.held_by.pop(caller, 0) - given_back):
            shares.held_by[caller] = left

    def take(self, amount: int) -> None:
        """Hold more. LimitReached: no more than before."""
        caller, shares = self._caller, self._shares
        of_caller = 0 if caller is None else shares.held_by.get(caller, 0) + amount
        if of_caller > shares.share:
            limit = f"{shares.share} of {shares.limit}"
            raise LimitReached(f"the limit of one caller is {limit} {shares.name}")
        if shares.held + amount > shares.limit:
            raise LimitReached(f"the limit is {shares.limit} {shares.name}")
        shares.held += amount
        self._held += amount
        if caller is not None:
            shares.held_by[caller] = of_caller
