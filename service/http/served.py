"""What the application serves, and how much of it at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from domains.declaration import Domain
from protocols.outcomes import Outcome
from service.queries import Querier
from stores.contracts import EventStore
from topics.event import MAX_EVENT_BYTES


class Sends(Protocol):
    """The commands of one domain: an EventService."""

    async def send(
        self,
        aggregate_id: str,
        command: str,
        data: dict[str, Any],
        *,
        command_id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        actor: str | None = None,
        traceparent: str | None = None,
        timeout: float = 10.0,
    ) -> Outcome:
        """As EventService has it."""


class Served(NamedTuple):
    """One domain: how its commands go in and its queries are answered."""

    domain: Domain[Any]
    commands: Sends
    queries: Querier[Any]
    events: EventStore


ServedDomains = Mapping[str, Served]


@dataclass(frozen=True)
class Limits:
    """`requests` at once, of at most `body_bytes`, each answered within `seconds`; of a stream
    each line."""

    requests: int = 256
    body_bytes: int = MAX_EVENT_BYTES
    seconds: float = 10.0
