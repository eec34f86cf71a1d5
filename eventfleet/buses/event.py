"""Events as a bus carries them: made of a stored event, published and never stored."""

from datetime import datetime
from typing import Any

import msgspec


class DocumentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a document or an aggregate.

    `version` is that of the stored event it was made of; one may make several. `timestamp`
    is UTC, in whole milliseconds. `data` holds what JSON can.
    """

    id: str
    event_type: str
    aggregate_id: str
    aggregate_type: str
    version: int
    timestamp: datetime
    data: dict[str, Any]
