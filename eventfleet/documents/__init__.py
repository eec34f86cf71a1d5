"""Documents whose every change is an event, and the parts of CQRS.

    async with open_storage("mongodb://localhost:27017", "mydb", "users", User) as users:
        await users.find_one_and_upsert(User(id="user123", name="John"), "signup")

It needs MongoDB alone. Buses that need a client library are imported from modules of their own:
`eventfleet.documents.event.redis_bus`, `redis_pubsub_bus` and `nats_bus`.
"""

from eventfleet.documents.errors import EditConflict, InvalidDocument, NotFound, OpeningFailed
from eventfleet.documents.event.bus import EventBus, KeptDelivery
from eventfleet.documents.event.event import DocumentEvent
from eventfleet.documents.event.handler import EventFunction, EventHandler, Subscriber
from eventfleet.documents.event.mapper import (
    AggregateEventMapper,
    DerivedEvent,
    EventMapper,
    EventTypes,
)
from eventfleet.documents.event.memory_bus import MemoryBus
from eventfleet.documents.storage.change import Change, ChangeOperation
from eventfleet.documents.storage.diff import Diff
from eventfleet.documents.storage.document_domain import document_domain
from eventfleet.documents.storage.event_sourced import (
    EventSourcedStorage,
    StorageOptions,
    WatchedChange,
)
from eventfleet.documents.storage.storage import Documents, open_storage
from eventfleet.stores.memory.document_store import MemoryClient, MemoryDocuments

__all__ = [
    "AggregateEventMapper",
    "Change",
    "ChangeOperation",
    "DerivedEvent",
    "Diff",
    "DocumentEvent",
    "Documents",
    "EditConflict",
    "EventBus",
    "EventFunction",
    "EventHandler",
    "EventMapper",
    "EventSourcedStorage",
    "EventTypes",
    "InvalidDocument",
    "KeptDelivery",
    "MemoryBus",
    "MemoryClient",
    "MemoryDocuments",
    "NotFound",
    "OpeningFailed",
    "StorageOptions",
    "Subscriber",
    "WatchedChange",
    "document_domain",
    "open_storage",
]
