"""The contracts of stores, log, markers, channels, clock and ids, each documented only here.

Implementations promise no more than this, and each passes `tests/contract`. Every method may raise
`ServerUnavailable`, and bounds its own time. Sequences, given and returned, are small enough for
memory unless a method is documented as paged or streamed.
"""

from eventfleet.stores.contracts.channels import Channels, Claim
from eventfleet.stores.contracts.dead_letters import DeadLetterStore
from eventfleet.stores.contracts.events import (
    NO_HEAD,
    AssignPosition,
    EventReader,
    EventSequencer,
    EventStore,
    Head,
    Page,
    ParkedWrite,
    ParkEvent,
    PlaceParked,
    RefuseParked,
    Tail,
    TailQuery,
    VersionRange,
    Write,
)
from eventfleet.stores.contracts.log import (
    LogAdmin,
    LogFollower,
    LogReader,
    LogWriter,
    PartitionWriter,
    TopicState,
    Watermarks,
)
from eventfleet.stores.contracts.markers import (
    CurrentMarker,
    Incarnation,
    Markers,
    MarkOwner,
    MarkRequest,
    MarkResult,
    MarkStatus,
    Note,
    StoredHead,
)
from eventfleet.stores.contracts.notices import (
    Disposition,
    DispositionKind,
    Notice,
    Notices,
    Stage,
)
from eventfleet.stores.contracts.outbox import Outbox
from eventfleet.stores.contracts.registry import (
    UNKNOWN_INCARNATION,
    OffsetNote,
    OffsetRange,
    RegistryFacts,
    Repair,
    RepairKind,
    StoreRegistry,
)
from eventfleet.stores.contracts.snapshots import ShapeCount, Snapshot, SnapshotStore
from eventfleet.stores.contracts.system import (
    Clock,
    DomainStores,
    IdGenerator,
    StoresByDomain,
)
from eventfleet.stores.contracts.views import ViewStore

__all__ = [
    "NO_HEAD",
    "UNKNOWN_INCARNATION",
    "AssignPosition",
    "Channels",
    "Claim",
    "Clock",
    "CurrentMarker",
    "DeadLetterStore",
    "Disposition",
    "DispositionKind",
    "DomainStores",
    "EventReader",
    "EventSequencer",
    "EventStore",
    "Head",
    "IdGenerator",
    "Incarnation",
    "LogAdmin",
    "LogFollower",
    "LogReader",
    "LogWriter",
    "MarkOwner",
    "MarkRequest",
    "MarkResult",
    "MarkStatus",
    "Markers",
    "Note",
    "Notice",
    "Notices",
    "OffsetNote",
    "OffsetRange",
    "Outbox",
    "Page",
    "ParkEvent",
    "ParkedWrite",
    "PartitionWriter",
    "PlaceParked",
    "RefuseParked",
    "RegistryFacts",
    "Repair",
    "RepairKind",
    "ShapeCount",
    "Snapshot",
    "SnapshotStore",
    "Stage",
    "StoreRegistry",
    "StoredHead",
    "StoresByDomain",
    "Tail",
    "TailQuery",
    "TopicState",
    "VersionRange",
    "ViewStore",
    "Watermarks",
    "Write",
]
