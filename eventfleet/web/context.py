"""What the application serves, and how much of it at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from eventfleet.model.domain import Domain
from eventfleet.service.event_service import EventService
from eventfleet.states.querier import Querier
from eventfleet.stores.contracts import EventStore
from eventfleet.topics.event import MAX_EVENT_BYTES


class DomainServices(NamedTuple):
    """One domain: how its commands go in and its queries are answered."""

    domain: Domain[Any]
    commands: EventService
    queries: Querier[Any]
    events: EventStore


ServicesByDomain = Mapping[str, DomainServices]


@dataclass(frozen=True)
class Limits:
    """`requests` at once, of at most `body_bytes`, each answered within `seconds`; of a stream
    each line. Who waits for a stage may do so for `patience` seconds more."""

    requests: int = 256
    body_bytes: int = MAX_EVENT_BYTES
    seconds: float = 10.0
    patience: int = 60
