"""The errors that eventfleet raises on purpose; EventfleetError is the root of all."""

from eventfleet.deciders.command_attempts import DecideFailed
from eventfleet.model.errors import DeclarationError
from eventfleet.runtime.connections import UnknownDomain, Unreachable
from eventfleet.runtime.settings import SettingsError
from eventfleet.states.live_state import ReplayFailed
from eventfleet.stores.errors import InvalidCursor, Misconfigured, ServerUnavailable, StoreError
from eventfleet.topics.errors import EventfleetError, InvalidRecord

__all__ = [
    "DecideFailed",
    "DeclarationError",
    "EventfleetError",
    "InvalidCursor",
    "InvalidRecord",
    "Misconfigured",
    "ReplayFailed",
    "ServerUnavailable",
    "SettingsError",
    "StoreError",
    "UnknownDomain",
    "Unreachable",
]
