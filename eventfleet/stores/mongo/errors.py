"""Translates the driver's errors to the stores'; no other module handles the former."""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bson.errors import BSONError
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)

from eventfleet.stores.driver_faults import describe, is_outage
from eventfleet.stores.errors import (
    AccessFault,
    AccessRefused,
    Duplicate,
    HungUp,
    Misconfigured,
    ServerUnavailable,
    StoreError,
)
from eventfleet.stores.tls import UNTRUSTED, certificate_fault
from eventfleet.topics.event import EventRecord

DRIVERS = frozenset({"pymongo", "motor", "bson"})
DUPLICATE_KEY = 11000
CONDITIONS = {("_id",): "event id", ("aggregate_id", "version"): "version"}
"""The unique keys of the stores, by their fields, as errors name them."""
OWN_INDEXES = {"_id_": ("_id",), "versions": ("aggregate_id", "version")}

# These pass when a primary is elected again, a lock is released, or a disk has room; with another
# cursor, another plan, or when the keys of cluster times are there.
TRANSIENT_CODES = frozenset(
    {6, 7, 24, 46, 50, 63, 64, 89, 91, 100, 112, 134, 150, 189, 202, 225, 234, 246, 251, 262, 290}
    | {43, 175, 211, 237}
    | {9001, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031}
)
TRANSIENT_LABELS = (
    "RetryableWriteError",
    "TransientTransactionError",
    "UnknownTransactionCommitResult",
)
_INDEX_NAME = re.compile(r"index: (?:\S*\$)?(\S+)")
# What the server can't do: this lasts until an operator acts.
OPERATOR_CODES = frozenset({20, 26, 59, 72, 85, 86, 115, 263})
UNAUTHORIZED = 13
CREDENTIAL_CODES = frozenset({11, 18})
# A reply that refuses a command quotes it whole, with the documents that it carries.
_QUOTED_COMMAND = re.compile(r"command \{ (\w+): \W?([^\s\"',}]+).*", re.DOTALL)
_SERVER = re.compile(r":\d+: ")
HUNG_UP_TEXTS = ("SSL handshake failed", "closed", "reset by peer", "No servers found yet")


class OperationRefused(StoreError):
    """The server refuses the operation, or the driver its data, and would refuse it again."""


@contextmanager
def translate_errors(where: str, events: Sequence[EventRecord] = ()) -> Iterator[None]:
    """Raise the stores' errors instead of the driver's; `events` are those of a write, in order.

    What the driver itself raises, beside refusals, is ServerUnavailable.
    """
    try:
        yield
    except BulkWriteError as error:
        raise _translate_bulk(where, error.details, events) from None
    except DuplicateKeyError as error:
        raise _translate_duplicate(where, {"index": 0, **(error.details or {})}, events) from None
    except PyMongoError as error:
        raise _translate(where, error) from None
    except (BSONError, OverflowError, UnicodeError) as error:
        raise OperationRefused(f"{where}: {error}") from None
    except (Exception, asyncio.CancelledError) as error:
        if not is_outage(DRIVERS, error):
            raise
        raise ServerUnavailable(f"{where}: {describe(error)}") from error


def _translate(where: str, error: PyMongoError) -> StoreError:
    if refusal := _refusal(error):
        reason, access = refusal
        return AccessRefused(f"{where}: MongoDB", reason, access)
    message = f"{where}: {_reason(error)}"
    unconnected = isinstance(error, ServerSelectionTimeoutError)
    if unconnected and any(text in message for text in HUNG_UP_TEXTS):
        return HungUp(message)
    if isinstance(error, OperationFailure) and error.code in OPERATOR_CODES:
        return Misconfigured(message)
    if isinstance(error, ConfigurationError):
        return Misconfigured(message)
    refused = isinstance(error, OperationFailure) and error.code not in TRANSIENT_CODES
    labelled = any(map(error.has_error_label, TRANSIENT_LABELS))
    if refused and not (labelled or error.timeout or isinstance(error, WriteConcernError)):
        return OperationRefused(message)
    return ServerUnavailable(message)


def _refusal(error: PyMongoError) -> tuple[str, AccessFault] | None:
    """Return the reason why the server refuses us, or we its certificate; None for other errors."""
    reason = _reason(error)
    code = error.code if isinstance(error, OperationFailure) else None
    if code in CREDENTIAL_CODES:
        return f"the user name and password are not accepted ({reason})", AccessFault.CREDENTIALS
    if code == UNAUTHORIZED and "requires authentication" in reason:
        return f"a user name and password are needed ({reason})", AccessFault.CREDENTIALS
    if code == UNAUTHORIZED:
        reason = _QUOTED_COMMAND.sub(r"command \1 on \2", reason)
        return f"the user lacks a right ({reason})", AccessFault.RIGHT
    # Where some servers of several fail for another reason, a passing one may be among these.
    all_untrusted = 0 < len(_SERVER.findall(reason)) <= reason.count(UNTRUSTED)
    if all_untrusted and (fault := certificate_fault(error)):
        return f"the server's certificate is not accepted ({fault})", AccessFault.CERTIFICATE
    return None


def _translate_bulk(
    where: str, details: Mapping[str, Any], events: Sequence[EventRecord]
) -> StoreError:
    """Translate the failure of a bulk's write concern, or the first refused write.

    A failed write concern comes first: it leaves open which of the other writes will last.
    """
    for failure in details.get("writeConcernErrors", ()):
        reason = failure.get("errmsg", "write concern failed")
        return _translate(where, WriteConcernError(reason, failure.get("code")))
    first = details["writeErrors"][0]
    if first.get("code") == DUPLICATE_KEY:
        return _translate_duplicate(where, first, events)
    return _translate(
        where, OperationFailure(first.get("errmsg", "bulk write failed"), first.get("code"))
    )


def _translate_duplicate(
    where: str, error: Mapping[str, Any], events: Sequence[EventRecord]
) -> StoreError:
    if not has_taken_key(error):
        return _foreign_index(where, error)
    if not events:
        return ServerUnavailable(f"{where}: another writer did the same at the same time")
    return to_duplicate(error["index"], error, events)


def has_taken_key(error: Mapping[str, Any]) -> bool:
    """Return whether a write failed since one of the stores' own unique keys is taken."""
    return error.get("code") == DUPLICATE_KEY and _key_fields(error) in CONDITIONS


def without_taken_keys(error: BulkWriteError) -> BulkWriteError | None:
    """Return what failed of a bulk for another reason than a taken key of the stores' own."""
    details = dict(error.details or {})
    details["writeErrors"] = [e for e in details["writeErrors"] if not has_taken_key(e)]
    failed = details["writeErrors"] or details.get("writeConcernErrors")
    return BulkWriteError(details) if failed else None


def _key_fields(error: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields of the key that is taken; some servers name the index only."""
    if "keyPattern" in error:
        return tuple(error["keyPattern"])
    return OWN_INDEXES.get(_index_name(error), ())


def _index_name(error: Mapping[str, Any]) -> str:
    name = _INDEX_NAME.search(error.get("errmsg", ""))
    return name[1] if name else ""


def _foreign_index(where: str, error: Mapping[str, Any]) -> Misconfigured:
    name, fields = _index_name(error), ", ".join(_key_fields(error)) or "unknown fields"
    return Misconfigured(
        f"{where}: the unique index {name!r} ({fields}) is not eventfleet's, and keeps"
        " out what must be stored: drop it, or make it again without `unique`"
    )


def to_duplicate(index: int, error: Mapping[str, Any], events: Sequence[EventRecord]) -> Duplicate:
    event, key = events[index], _key_fields(error)
    return Duplicate(index, f"{event.domain}/{event.aggregate_id}", event.version, CONDITIONS[key])


def _reason(error: PyMongoError) -> str:
    """Return the driver's message without its description of the topology and the raw reply."""
    text = str(error)
    for tail in (", full error:", ", Timeout:", " (configured timeouts:"):
        text = text.partition(tail)[0]
    return text
