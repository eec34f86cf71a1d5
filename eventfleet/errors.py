"""The errors that a program may meet; EventfleetError is the root of all.

    try:
        await service.send("order-1", Pay(amount=0))
    except InvalidRecord as error:
        print(error.field, error.reason)  # data.amount Expected `int` >= 1

What becomes of a valid command is no error, but an outcome (see `eventfleet.commands`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eventfleet.feeds.feed_follower import FeedRefused
from eventfleet.log_files.directly_follows import UnusableRules
from eventfleet.log_files.loader import TakesCommandsOnly
from eventfleet.log_files.rows import UnusableFile
from eventfleet.model.errors import DeclarationError
from eventfleet.runtime.errors import NoDomains, ServerRefused, UnknownDomain, Unreachable
from eventfleet.runtime.settings import SettingsError
from eventfleet.runtime.view_builds import BuildHeld, BuildReplaced, BuildStalled
from eventfleet.service.parked_aggregates import NotParked
from eventfleet.service.shares import LimitReached
from eventfleet.states.live_state import ReplayFailed
from eventfleet.states.view_reader import UnknownView, ViewNotBuilt
from eventfleet.stores.errors import (
    AccessRefused,
    Duplicate,
    EditConflict,
    FileInUse,
    HungUp,
    InvalidCursor,
    Misconfigured,
    NotFound,
    RecordsTooLarge,
    ServerUnavailable,
    StoreError,
    TopicRefused,
)
from eventfleet.topics.errors import EventfleetError, InvalidRecord, NewerSchema

if TYPE_CHECKING:
    from eventfleet.aggregates.errors import AlreadyRegistered, NotRegistered
    from eventfleet.buses.errors import EventRefused
    from eventfleet.documents.errors import InvalidDocument, OpeningFailed
    from eventfleet.stores.mongo.errors import OperationRefused
    from eventfleet.web.failure_log import StreamCutOff
    from eventfleet.web.key_file import InvalidKeyFile
    from eventfleet.web.problems import RequestRefused

__all__ = [
    "AccessRefused",
    "AlreadyRegistered",
    "BuildHeld",
    "BuildReplaced",
    "BuildStalled",
    "DeclarationError",
    "Duplicate",
    "EditConflict",
    "EventRefused",
    "EventfleetError",
    "FeedRefused",
    "FileInUse",
    "HungUp",
    "InvalidCursor",
    "InvalidDocument",
    "InvalidKeyFile",
    "InvalidRecord",
    "LimitReached",
    "Misconfigured",
    "NewerSchema",
    "NoDomains",
    "NotFound",
    "NotParked",
    "NotRegistered",
    "OpeningFailed",
    "OperationRefused",
    "RecordsTooLarge",
    "ReplayFailed",
    "RequestRefused",
    "ServerRefused",
    "ServerUnavailable",
    "SettingsError",
    "StoreError",
    "StreamCutOff",
    "TakesCommandsOnly",
    "TopicRefused",
    "UnknownDomain",
    "UnknownView",
    "Unreachable",
    "UnusableFile",
    "UnusableRules",
    "ViewNotBuilt",
]

# Their modules import a driver, Starlette or asyncio's subprocesses: imported at first use, so that
# a program that catches errors needs none of them.
_IMPORTED_AT_FIRST_USE = {
    "AlreadyRegistered": "eventfleet.aggregates.errors",
    "EventRefused": "eventfleet.buses.errors",
    "InvalidDocument": "eventfleet.documents.errors",
    "InvalidKeyFile": "eventfleet.web.key_file",
    "NotRegistered": "eventfleet.aggregates.errors",
    "OpeningFailed": "eventfleet.documents.errors",
    "OperationRefused": "eventfleet.stores.mongo.errors",
    "RequestRefused": "eventfleet.web.problems",
    "StreamCutOff": "eventfleet.web.failure_log",
}


def __getattr__(name: str) -> Any:
    if name not in _IMPORTED_AT_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_IMPORTED_AT_FIRST_USE[name]), name)
