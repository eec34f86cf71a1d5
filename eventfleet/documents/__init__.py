"""Documents whose every change is an event.

    async with open_storage("mongodb://localhost:27017", "mydb", "users", User) as users:
        await users.find_one_and_upsert(User(id="user123", name="John"), "signup")

They need MongoDB alone. What is published of their changes goes over a bus of `eventfleet.buses`.
"""

from eventfleet.buses.derived_event import DerivedEvent
from eventfleet.documents.change import Change
from eventfleet.documents.diff import ChangeOperation, Diff
from eventfleet.documents.document_domain import document_domain
from eventfleet.documents.errors import InvalidDocument, OpeningFailed
from eventfleet.documents.event_sourced import EventSourcedStorage, StorageOptions, WatchedChange
from eventfleet.documents.mapper import EventMapper, EventTypes
from eventfleet.documents.storage import Documents, open_storage
from eventfleet.stores.errors import EditConflict, NotFound
from eventfleet.stores.memory.document_store import MemoryClient, MemoryDocuments

__all__ = [
    "Change",
    "ChangeOperation",
    "DerivedEvent",
    "Diff",
    "Documents",
    "EditConflict",
    "EventMapper",
    "EventSourcedStorage",
    "EventTypes",
    "InvalidDocument",
    "MemoryClient",
    "MemoryDocuments",
    "NotFound",
    "OpeningFailed",
    "StorageOptions",
    "WatchedChange",
    "document_domain",
    "open_storage",
]
