"""The background tasks of the driver's consumers.

An error that the driver does not foresee, as in an outage, ends them. It says so in its log at
most: without its task a consumer fetches nothing, or is no member of its group, for ever.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class EndedTask(NamedTuple):
    """A task that an error has ended, and how it is begun again."""

    name: str
    error: BaseException
    begin: Callable[[], None]


def raise_ended(consumer: Any) -> None:
    """Raise the error that has ended a task of a consumer, if one has."""
    for ended in ended_tasks(consumer):
        raise ended.error


def ended_tasks(consumer: Any) -> Iterator[EndedTask]:
    """The tasks of a started consumer that an error has ended."""
    client, fetcher, coordinator = consumer._client, consumer._fetcher, consumer._coordinator

    def synchronize() -> None:
        client._sync_task = asyncio.create_task(client._md_synchronizer())

    def fetch() -> None:
        fetcher._pending_tasks -= {task for task in fetcher._pending_tasks if task.done()}
        fetcher._fetch_task = asyncio.create_task(fetcher._fetch_requests_routine())

    def coordinate() -> None:
        coordinator.request_rejoin()
        coordinator._coordination_task = asyncio.create_task(coordinator._coordination_routine())

    for name, task, begin in (
        ("metadata", client._sync_task, synchronize),
        ("fetching", fetcher._fetch_task, fetch),
        ("coordination", getattr(coordinator, "_coordination_task", None), coordinate),
        # It is begun again by joining the group.
        ("heartbeat", getattr(coordinator, "_heartbeat_task", None), _rejoin(coordinator)),
        ("offsets", getattr(coordinator, "_commit_refresh_task", None), _rejoin(coordinator)),
    ):
        if task and task.done() and not task.cancelled() and (error := task.exception()):
            yield EndedTask(name, error, begin)


def _rejoin(coordinator: Any) -> Callable[[], None]:
    return lambda: coordinator.request_rejoin()
