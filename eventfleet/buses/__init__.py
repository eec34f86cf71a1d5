"""Event buses: they deliver what documents and aggregates publish to groups of subscribers.

    bus = RedisBus(client, "users")
    bus.subscribe("UserCreated", send_mail, group="mails")

MemoryBus lies in this process. RedisBus, RedisPubSubBus and NatsBus are on servers; their client
libraries are imported at the first use of their names.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eventfleet.buses.bus import EventBus, KeptDelivery
from eventfleet.buses.derived_event import DerivedEvent
from eventfleet.buses.errors import EventRefused
from eventfleet.buses.event import DocumentEvent
from eventfleet.buses.handler import EventFunction, EventHandler, Subscriber
from eventfleet.buses.memory_bus import MemoryBus
from eventfleet.buses.serializer import CloudEventsSerializer, Serializer

if TYPE_CHECKING:
    from eventfleet.buses.nats_bus import NatsBus
    from eventfleet.buses.redis_bus import RedisBus
    from eventfleet.buses.redis_pubsub_bus import RedisPubSubBus

__all__ = [
    "CloudEventsSerializer",
    "DerivedEvent",
    "DocumentEvent",
    "EventBus",
    "EventFunction",
    "EventHandler",
    "EventRefused",
    "KeptDelivery",
    "MemoryBus",
    "NatsBus",
    "RedisBus",
    "RedisPubSubBus",
    "Serializer",
    "Subscriber",
]

_IMPORTED_AT_FIRST_USE = {
    "NatsBus": "eventfleet.buses.nats_bus",
    "RedisBus": "eventfleet.buses.redis_bus",
    "RedisPubSubBus": "eventfleet.buses.redis_pubsub_bus",
}


def __getattr__(name: str) -> Any:
    if name not in _IMPORTED_AT_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_IMPORTED_AT_FIRST_USE[name]), name)
