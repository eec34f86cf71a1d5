"""Commands and queries of one domain by way of a running HTTP service."""

from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from yarl import URL

from eventfleet.deciders.outcomes import (
    Accepted,
    Conflict,
    IdReused,
    Outcome,
    Rejected,
    Repeated,
    Unavailable,
)
from eventfleet.runtime.settings import Settings
from eventfleet.service.stage_waiter import WaitResult
from eventfleet.states.querier import MissingEvents as Lacking
from eventfleet.states.querier import StateAt, StateDiff
from eventfleet.stores.contracts import Snapshot, Stage
from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.event import EventRecord
from eventfleet.web.bodies import (
    PROBLEM_JSON,
    AggregateState,
    CommandResult,
    EventPage,
    MissingEventsPage,
    ProblemDetails,
)
from eventfleet.web.problems import (
    CONFLICT,
    ID_REUSED,
    NO_SNAPSHOT,
    REJECTED,
    UNAVAILABLE,
    UNKNOWN_AGGREGATE,
    UNKNOWN_VERSION,
)

T = TypeVar("T")

PAGE = 1_000
ANSWER_SECONDS = 30.0
PATIENCE = 60
JSON = {"Content-Type": "application/json"}
ABSENT = {UNKNOWN_AGGREGATE.type, NO_SNAPSHOT.type, UNKNOWN_VERSION.type}
OUTCOMES = {
    REJECTED.type: Rejected,
    CONFLICT.type: Conflict,
    ID_REUSED.type: IdReused,
    UNAVAILABLE.type: Unavailable,
}


class ServiceFailed(EventfleetError):
    """The service did not do what it was asked; its own words, or those of the network."""


class ServiceRefused(ServiceFailed):
    """A problem that the service told."""

    def __init__(self, problem: ProblemDetails) -> None:
        super().__init__(f"the service says: {problem.title}: {problem.detail}".rstrip(": "))
        self.problem = problem


class HttpClient:
    """As EventService and Querier, for what the command line asks of them."""

    def __init__(self, session: aiohttp.ClientSession, url: str, domain: str) -> None:
        self._session, self._at = session, f"{url.rstrip('/')}/domains/{quote(domain, safe='')}"

    async def send(
        self,
        aggregate_id: str,
        command: str,
        data: dict[str, Any],
        *,
        command_id: str,
        wait: Stage,
        patience: float,
    ) -> WaitResult:
        seconds = min(max(round(patience), 1), PATIENCE)
        headers = {"Idempotency-Key": command_id, "Prefer": f"wait={seconds}", **JSON}
        asking = self._session.post(
            self._url(aggregate_id, "commands", command, wait=wait.value),
            data=msgspec.json.encode(data),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS + seconds),
        )
        try:
            sent = await _read(asking, CommandResult)
        except ServiceRefused as refusal:
            problem = refusal.problem
            if problem.type not in OUTCOMES:
                raise
            return WaitResult(OUTCOMES[problem.type](problem.reason or problem.detail), None)
        return WaitResult(_outcome(sent), sent.stage or None)

    async def events(
        self,
        aggregate_id: str,
        after: int = 0,
        limit: int | None = None,
        types: Collection[str] | None = None,
    ) -> AsyncIterator[EventRecord]:
        left, following = limit, after
        while True:
            page = PAGE if left is None else min(left, PAGE)
            asked = {"after": following, "limit": page, "types": list(types or ())}
            found = await self._found(EventPage, aggregate_id, "events", **asked)
            for event in found.events if found else []:
                yield event
            if left is not None:
                left -= page
            if found is None or found.next is None or left == 0:
                return
            following = found.next

    async def snapshot(self, aggregate_id: str) -> Snapshot | None:
        return await self._found(Snapshot, aggregate_id, "snapshot")

    async def latest(self, aggregate_id: str) -> StateAt[Any] | None:
        return await self._state(aggregate_id)

    async def at(self, aggregate_id: str, version: int) -> StateAt[Any] | None:
        return await self._state(aggregate_id, version=version)

    async def at_time(self, aggregate_id: str, moment: datetime) -> StateAt[Any] | None:
        return await self._state(aggregate_id, at=moment.isoformat())

    async def diff(self, aggregate_id: str, first: int, second: int) -> StateDiff | None:
        asked = {"first": first, "second": second}
        return await self._found(StateDiff, aggregate_id, "diff", **asked)

    async def missing(self, aggregate_id: str, after: int, limit: int = PAGE) -> Lacking:
        asked = {"after": after, "limit": max(limit, 1)}
        found = await self._found(MissingEventsPage, aggregate_id, "missing", **asked)
        latest, events = (found.latest, found.events) if found else (0, [])
        return Lacking(aggregate_id, after, latest, events[:limit])

    async def _state(self, aggregate_id: str, **asked: Any) -> StateAt[Any] | None:
        found = await self._found(AggregateState, aggregate_id, "state", **asked)
        if found is None:
            return None
        return StateAt(found.aggregate_id, found.version, found.state, found.state)

    async def _found(self, kind: type[T], *parts: str, **asked: Any) -> T | None:
        try:
            return await _read(self._session.get(self._url(*parts, **asked)), kind)
        except ServiceRefused as refusal:
            if refusal.problem.type in ABSENT:
                return None
            raise

    def _url(self, *parts: str, **asked: Any) -> URL:
        """Encoded here: an id may hold what divides a path."""
        path = "/".join([self._at, *(quote(part, safe="") for part in parts)])
        return URL(f"{path}?{urlencode(asked, doseq=True)}", encoded=True)


@asynccontextmanager
async def http_client(settings: Settings, domain: str) -> AsyncIterator[HttpClient]:
    """The domain at the service that the settings name."""
    token = settings.service_token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        yield HttpClient(session, settings.service_url, domain)


async def _read(asking: AbstractAsyncContextManager[aiohttp.ClientResponse], kind: type[T]) -> T:
    try:
        async with asking as answer:
            body = await answer.read()
            if answer.content_type == PROBLEM_JSON:
                raise ServiceRefused(msgspec.json.decode(body, type=ProblemDetails))
            answer.raise_for_status()
            return msgspec.json.decode(body, type=kind)
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
        reason = str(error) or type(error).__name__
        raise ServiceFailed(f"the service did not answer as it should: {reason}") from error


def _outcome(sent: CommandResult) -> Outcome:
    version = sent.version or 0
    if sent.outcome == "repeated":
        return Repeated(sent.event_id, sent.place, version)
    return Accepted(sent.event_id, sent.place, version, sent.published is not False)
