"""Subscriptions, and the groups that share events among them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import partial
from inspect import isawaitable, ismethod
from typing import Any

from eventfleet.buses.event import DocumentEvent
from eventfleet.buses.handler import EventFunction, Subscriber
from eventfleet.buses.serializer import Serializer
from eventfleet.model.errors import DeclarationError
from eventfleet.model.value_copy import copy_value
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.retry import DELIVERY
from eventfleet.topics.errors import InvalidRecord

MAX_REASON_CHARS = 1_000

logger = logging.getLogger(__name__)


class Subscription:
    """A pattern, a subscriber and its group."""

    def __init__(self, pattern: str, subscriber: Subscriber, group: str | None) -> None:
        self.pattern, self.subscriber = pattern, subscriber
        self.is_named = bool(group)
        self.group = group or f"{_name(subscriber)}.{pattern}"
        handle: Any = subscriber
        self._handle: EventFunction = getattr(handle, "handle_event", handle)

    def matches(self, event_type: str) -> bool:
        return fnmatchcase(event_type, self.pattern)

    def shares_by_accident(self, other: "Subscription") -> bool:
        """Return whether another subscriber has the same group only since no group is named."""
        return not (
            (self.is_named and other.is_named)
            or _is_same_subscriber(self.subscriber, other.subscriber)
        )

    async def deliver(self, event: DocumentEvent) -> str | None:
        """Hand an event to the subscriber; return the last error's text when all tries failed.

        Each try gets an event of its own.
        """
        try:
            await DELIVERY.retry(partial(self._call, event), lambda _: True)
        except Exception as error:
            what = f"{event.event_type} {event.id}"
            logger.warning("%s: %s is a dead letter now", self.group, what, exc_info=error)
            return f"{type(error).__name__}: {error}"[:MAX_REASON_CHARS]
        return None

    async def _call(self, event: DocumentEvent) -> None:
        result: Any = self._handle(copy_value(event))
        if isawaitable(result):
            await result


class SubscriberGroup:
    """The subscriptions of one group in this process, which take turns."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._subscriptions: list[Subscription] = []

    def add(self, subscription: Subscription) -> None:
        """Add a subscription. DeclarationError: it would share the events by accident."""
        if any(subscription.shares_by_accident(other) for other in self._subscriptions):
            raise DeclarationError(
                f"two subscribers of {subscription.pattern!r} have the group {self.name!r}, which"
                " is made of their name, and would share the events: name a group for each, as in"
                f" subscribe({subscription.pattern!r}, ..., group='...'); those that shall share"
                " them name the same one"
            )
        self._subscriptions.append(subscription)

    def matches(self, event_type: str) -> bool:
        return any(each.matches(event_type) for each in self._subscriptions)

    async def deliver(self, event: DocumentEvent) -> str | None:
        """Hand an event to one that it matches, if any; return why it could not be handled."""
        for index, subscription in enumerate(self._subscriptions):
            if subscription.matches(event.event_type):
                self._subscriptions.append(self._subscriptions.pop(index))
                return await subscription.deliver(event)
        return None

    async def deliver_value(
        self, value: bytes, serializer: Serializer, given_again_to: str | None = None
    ) -> str | None:
        """Deliver what a server had of an event, unless it was given again to another group.

        Returns why it could not be read or handled.
        """
        if given_again_to not in (None, self.name):
            return None
        try:
            event = serializer.decode(value)
        except InvalidRecord as error:
            logger.warning("%s: what is no event is a dead letter now: %s", self.name, error)
            return f"unreadable: {error}"[:MAX_REASON_CHARS]
        return await self.deliver(event)


class SubscriberGroups:
    """The groups of a bus by name, and a task for each while the bus is started."""

    def __init__(self, consume: Callable[[SubscriberGroup], Awaitable[None]]) -> None:
        self._consume = consume
        self._groups: dict[str, SubscriberGroup] = {}
        self._tasks: dict[str, BackgroundTask] = {}
        self._started = False
        self._delivering = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def subscribe(self, pattern: str, subscriber: Subscriber, group: str | None) -> SubscriberGroup:
        """Add a subscription to its group, and begin to deliver if the bus is started."""
        subscription = Subscription(pattern, subscriber, group)
        name = subscription.group
        found = self._groups.get(name) or SubscriberGroup(name)
        found.add(subscription)
        self._groups[name] = found
        if self._started:
            self._begin(found)
        return found

    def all(self) -> list[SubscriberGroup]:
        return [*self._groups.values()]

    def start(self) -> None:
        self._started = True
        for group in self._groups.values():
            self._begin(group)

    async def stop(self, grace: float) -> None:
        """Let deliveries in progress end, for `grace` seconds, and begin no others."""
        self._started = False
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._idle.wait()
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            await task.end()

    def report_well(self, group: SubscriberGroup) -> None:
        """Note that the server answers a group again."""
        if task := self._tasks.get(group.name):
            task.report_well()

    @property
    def is_stopping(self) -> bool:
        return not self._started

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """Count a delivery, for which `stop` waits."""
        self._delivering += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._delivering -= 1
            if not self._delivering:
                self._idle.set()

    def _begin(self, group: SubscriberGroup) -> None:
        if group.name not in self._tasks:
            task = BackgroundTask(f"deliveries to {group.name}", partial(self._consume, group))
            self._tasks[group.name] = task
            task.start()


def _is_same_subscriber(one: Any, other: Any) -> bool:
    if ismethod(one) and ismethod(other):
        return one.__self__ is other.__self__ and one.__func__ is other.__func__
    return one is other


def _name(subscriber: Any) -> str:
    name = getattr(subscriber, "__qualname__", None) or type(subscriber).__qualname__
    return str(name).replace("<locals>.", "").replace("<lambda>", "lambda")
