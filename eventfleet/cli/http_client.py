"""The client of a running HTTP service: commands and queries of one domain."""

from collections.abc import AsyncIterator, Collection, Mapping
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
    VersionConflict,
)
from eventfleet.feeds.feed_follower import (
    CONNECT_SECONDS,
    SILENCE_SECONDS,
    ConnectionLost,
    FeedFollower,
    refused,
)
from eventfleet.runtime.settings import Settings
from eventfleet.service.stage_waiter import WaitResult
from eventfleet.states.querier import MissingEvents, StateAt, StateDiff
from eventfleet.stores.contracts import Disposition, Snapshot, Stage
from eventfleet.topics.codec import encode_digits
from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.event import EventRecord, ExpectedVersion
from eventfleet.topics.values import DECODE_ERRORS
from eventfleet.web.bodies import (
    PROBLEM_JSON,
    AggregateState,
    CommandResult,
    EventPage,
    MissingEventsPage,
    ProblemDetails,
    ViewPage,
)
from eventfleet.web.preconditions import IF_MATCH, etag
from eventfleet.web.problems import (
    BROKEN,
    BUSY,
    CONFLICT,
    FAILURES,
    ID_REUSED,
    NO_SNAPSHOT,
    REJECTED,
    UNAVAILABLE,
    UNKNOWN_AGGREGATE,
    UNKNOWN_VERSION,
    VERSION_CONFLICT,
)

T = TypeVar("T")

PAGE_EVENTS = 1_000
REQUEST_TIMEOUT_SECONDS = 30.0
MAX_WAIT_SECONDS = 60
JSON = {"Content-Type": "application/json"}
NOT_FOUND = {UNKNOWN_AGGREGATE.type, NO_SNAPSHOT.type, UNKNOWN_VERSION.type}
OUTCOMES = {
    REJECTED.type: Rejected,
    CONFLICT.type: Conflict,
    ID_REUSED.type: IdReused,
    UNAVAILABLE.type: Unavailable,
    BUSY.type: Unavailable,
    BROKEN.type: Unavailable,
}
"""What a problem means for a command, beside VERSION_CONFLICT; any other says that the request was
refused."""


class ServiceFailed(EventfleetError):
    """The service did not answer, or not with what was requested."""


class ServiceRefused(ServiceFailed):
    """The service answered with a problem (RFC 9457)."""

    def __init__(self, problem: ProblemDetails) -> None:
        text = f"the service refused: {problem.title}: {problem.detail}".rstrip(": ")
        known = problem.correlation_id
        super().__init__(f"{text} (correlation id {known})" if known else text)
        self.problem = problem

    @property
    def is_failure(self) -> bool:
        """True where the domain's own code raised."""
        failures = {kind.type for kind in FAILURES.values()} - {UNAVAILABLE.type}
        return self.problem.type in failures


class HttpClient:
    """Sends commands as EventService does, and answers queries as Querier does."""

    def __init__(self, session: aiohttp.ClientSession, url: str, domain: str) -> None:
        self._session = session
        self._base_url = f"{url.rstrip('/')}/domains/{quote(domain, safe='')}"
        self._views_url = f"{url.rstrip('/')}/views/{quote(domain, safe='')}"

    async def send(
        self,
        aggregate_id: str,
        command: str,
        data: dict[str, Any],
        *,
        command_id: str,
        wait: Stage,
        patience: float,
        expected_version: ExpectedVersion | None = None,
        actor: str | None = None,
    ) -> WaitResult:
        """Send a command; Unavailable where it is not known what the service did with it.

        ServiceRefused where the service refused the request, or the domain's code failed.
        """
        seconds = min(max(round(patience), 1), MAX_WAIT_SECONDS)
        headers = {"Idempotency-Key": command_id, "Prefer": f"wait={seconds}", **JSON}
        if expected_version is not None:
            headers[IF_MATCH] = "*" if expected_version == "*" else etag(expected_version)
        if actor is not None:
            headers["X-Actor"] = actor
        request = self._session.post(
            self._url(aggregate_id, "commands", command, wait=wait.value),
            data=encode_digits(data),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS + seconds),
        )
        try:
            sent = await _read(request, CommandResult)
        except ServiceRefused as refusal:
            if outcome := _refused_outcome(refusal.problem):
                return WaitResult(outcome, None)
            raise
        except ServiceFailed as failure:
            return WaitResult(Unavailable(str(failure)), None)
        return WaitResult(_outcome(sent), sent.stage or None, _disposition(sent))

    async def events(
        self,
        aggregate_id: str,
        after: int = 0,
        limit: int | None = None,
        types: Collection[str] | None = None,
    ) -> AsyncIterator[EventRecord]:
        left, last = limit, after
        while True:
            page = PAGE_EVENTS if left is None else min(left, PAGE_EVENTS)
            query = {"after": last, "limit": page, "types": list(types or ())}
            found = await self._get(EventPage, aggregate_id, "events", **query)
            for event in found.events if found else []:
                yield event
            if left is not None:
                left -= page
            if found is None or found.next is None or left == 0:
                return
            last = found.next

    async def snapshot(self, aggregate_id: str) -> Snapshot | None:
        return await self._get(Snapshot, aggregate_id, "snapshot")

    async def latest(self, aggregate_id: str) -> StateAt[Any] | None:
        return await self._state(aggregate_id)

    async def at(self, aggregate_id: str, version: int) -> StateAt[Any] | None:
        return await self._state(aggregate_id, version=version)

    async def at_time(self, aggregate_id: str, moment: datetime) -> StateAt[Any] | None:
        return await self._state(aggregate_id, at=moment.isoformat())

    async def diff(self, aggregate_id: str, first: int, second: int) -> StateDiff | None:
        query = {"first": first, "second": second}
        return await self._get(StateDiff, aggregate_id, "diff", **query)

    async def rows(
        self,
        view: str,
        where: Mapping[str, str],
        order_by: str | None = None,
        limit: int = PAGE_EVENTS,
        cursor: str = "",
    ) -> ViewPage:
        query = {**where, "limit": limit} | ({} if order_by is None else {"order": order_by})
        url = URL(
            f"{self._views_url}/{quote(view, safe='')}?"
            f"{urlencode(query | ({'from': cursor} if cursor else {}))}",
            encoded=True,
        )
        return await _read(self._session.get(url), ViewPage)

    def follow(
        self, aggregate_id: str | None, types: Collection[str], cursor: str, *, latest: bool
    ) -> FeedFollower:
        """Follow the domain, or one aggregate, from a cursor on; `latest`: what comes only."""
        path = ("feed",) if aggregate_id is None else (aggregate_id, "events")
        url = self._url(*path, types=[*types], **({"from": "latest"} if latest else {}))
        timeout = aiohttp.ClientTimeout(connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)

        @asynccontextmanager
        async def connect(headers: Mapping[str, str]) -> AsyncIterator[AsyncIterator[str]]:
            try:
                async with self._session.get(url, headers=headers, timeout=timeout) as answer:
                    if answer.status != 200:
                        raise refused(answer.status, await answer.read())
                    yield (line.decode().rstrip("\r\n") async for line in answer.content)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise ConnectionLost(str(error) or type(error).__name__) from error

        return FeedFollower(connect, cursor)

    async def missing(
        self, aggregate_id: str, after: int, limit: int | None = None
    ) -> MissingEvents:
        query = {"after": after, "limit": PAGE_EVENTS if limit is None else max(limit, 1)}
        found = await self._get(MissingEventsPage, aggregate_id, "missing", **query)
        latest, events = (found.latest, found.events) if found else (0, [])
        return MissingEvents(aggregate_id, after, latest, events[:limit])

    async def _state(self, aggregate_id: str, **query: Any) -> StateAt[Any] | None:
        found = await self._get(AggregateState, aggregate_id, "state", **query)
        if found is None:
            return None
        return StateAt(found.aggregate_id, found.version, found.state, found.state)

    async def _get(self, kind: type[T], *parts: str, **query: Any) -> T | None:
        try:
            return await _read(self._session.get(self._url(*parts, **query)), kind)
        except ServiceRefused as refusal:
            if refusal.problem.type in NOT_FOUND:
                return None
            raise

    def _url(self, *parts: str, **query: Any) -> URL:
        """The URL, encoded here: an id may contain slashes."""
        path = "/".join([self._base_url, *(quote(part, safe="") for part in parts)])
        return URL(f"{path}?{urlencode(query, doseq=True)}", encoded=True)


@asynccontextmanager
async def http_client(settings: Settings, domain: str) -> AsyncIterator[HttpClient]:
    """Open a client of the service that the settings name, for one domain."""
    token = settings.service_token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        yield HttpClient(session, settings.service_url, domain)


async def _read(request: AbstractAsyncContextManager[aiohttp.ClientResponse], kind: type[T]) -> T:
    try:
        async with request as answer:
            body = await answer.read()
            if answer.content_type == PROBLEM_JSON:
                raise ServiceRefused(msgspec.json.decode(body, type=ProblemDetails))
            answer.raise_for_status()
            return msgspec.json.decode(body, type=kind)
    except (aiohttp.ClientError, TimeoutError, *DECODE_ERRORS) as error:
        reason = str(error) or type(error).__name__
        raise ServiceFailed(f"the service did not answer as expected: {reason}") from error


def _refused_outcome(problem: ProblemDetails) -> Outcome | None:
    """The outcome that a problem means; None where the service refused the request."""
    reason = problem.reason or problem.detail or problem.title
    if problem.type == VERSION_CONFLICT.type:
        return VersionConflict(reason, problem.version or 0)
    return OUTCOMES[problem.type](reason) if problem.type in OUTCOMES else None


def _disposition(sent: CommandResult) -> Disposition | None:
    if not sent.disposition:
        return None
    return Disposition(sent.disposition.kind, sent.disposition.role, sent.disposition.reason)


def _outcome(sent: CommandResult) -> Outcome:
    version = sent.version or 0
    if sent.outcome == "repeated":
        return Repeated(sent.event_id, sent.place, version)
    return Accepted(sent.event_id, sent.place, version, sent.published is not False)
