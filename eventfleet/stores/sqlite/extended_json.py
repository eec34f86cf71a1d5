"""Documents as MongoDB's extended JSON, which keeps the types that JSON has not."""

import json
from datetime import UTC
from typing import Any

from bson import json_util
from bson.binary import UuidRepresentation

from eventfleet.stores.sqlite.event_table import DataCodec

OPTIONS = json_util.JSONOptions(
    json_mode=json_util.JSONMode.RELAXED,
    uuid_representation=UuidRepresentation.STANDARD,
    tz_aware=True,
    tzinfo=UTC,
)


def dump(value: Any) -> str:
    """Return a value as extended JSON; a key's own `$` at its beginning is doubled."""
    return json_util.dumps(_escaped(value), json_options=OPTIONS, separators=(",", ":"))


def load(text: str) -> Any:
    return json.loads(text, object_hook=_unescaped)


EXTENDED_JSON = DataCodec(dump, load)


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {_escaped_key(key): _escaped(inner) for key, inner in value.items()}
    return [*map(_escaped, value)] if isinstance(value, list | tuple) else value


def _escaped_key(key: str) -> str:
    return f"${key}" if key.startswith("$") else key


def _unescaped(value: dict[str, Any]) -> Any:
    found = json_util.object_hook(value, OPTIONS)
    if not isinstance(found, dict):
        return found
    return {key.removeprefix("$"): inner for key, inner in found.items()}
