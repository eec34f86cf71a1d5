"""DocumentCodec: encodes typed documents for the store and for events, and back.

A document's fields have two forms. Stored, times are dates, which queries compare; in events they
are JSON. In both, times are UTC in whole milliseconds, which is what a stored date keeps.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import is_dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints
from uuid import UUID

import msgspec

from eventfleet.documents.errors import InvalidDocument
from eventfleet.documents.exact_types import is_exact
from eventfleet.model.errors import DeclarationError
from eventfleet.model.value_copy import has_shared_defaults
from eventfleet.topics.codec import parse_encoded, to_invalid_record
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import truncate_to_milliseconds
from eventfleet.topics.values import MAX_ID_CHARS

T = TypeVar("T")

Fields = dict[str, Any]
STORED_TYPES = (datetime, bytes)


class EncodedDocument(NamedTuple):
    """A document that a program has made: its id, its fields as they are stored and as JSON, the
    bytes of the latter, and the document as it is read back."""

    id: Any
    fields: Fields
    json: Fields
    json_bytes: int
    value: Any


class DocumentCodec(Generic[T]):
    """Encodes documents of one type: a msgspec Struct, a dataclass or a pydantic model.

    The fields are without the id and without the version, which is the storage's; a type need not
    have a field for the version. An id is a string, an integer, a UUID, an ObjectId or another
    value that its type makes again from its text. InvalidDocument names a field and the reason.
    """

    def __init__(self, kind: type[T], id_field: str, version_field: str) -> None:
        self._kind: Any = kind
        self._is_pydantic = hasattr(kind, "model_validate")
        names = _wire_names(kind)
        if id_field not in names:
            raise DeclarationError(f"{kind.__name__} has no field {id_field!r} for the id")
        self._id_attribute = id_field
        self._id_name, self._version_name = names[id_field], names.get(version_field)
        self._id_type: Any = get_type_hints(kind)[id_field]
        self._shares_defaults, self._is_exact = has_shared_defaults(kind), is_exact(kind)

    @property
    def type_name(self) -> str:
        return str(self._kind.__name__)

    def encode(self, document: T) -> tuple[Any, Fields]:
        """Return a document's id and its fields as they are stored."""
        if not isinstance(document, self._kind):
            raise InvalidDocument("document", f"is no {self.type_name}, but {document!r:.80}")
        value = document.model_dump(warnings=False) if self._is_pydantic else document
        try:
            fields = _truncate_times(
                msgspec.to_builtins(
                    value, builtin_types=STORED_TYPES, str_keys=True, enc_hook=_to_text
                )
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidDocument("document", str(error)) from None
        if self._version_name:
            fields.pop(self._version_name, None)
        fields.pop(self._id_name)
        return self._check_id(document), fields

    def encode_valid(self, document: T, version: int) -> EncodedDocument:
        """Encode a document that a program has made, and read it back at a version.

        Where the type may make something else of what it has encoded, that is stored instead.
        InvalidDocument: a field is of another type, or JSON can't hold its value.
        """
        id, fields = self.encode(document)
        json = self.to_json(fields)
        json_bytes = check_json(json)
        value = self.decode(id, fields, version)
        if not self._is_exact:
            fields = self.encode(value)[1]
            json = self.to_json(fields)
        return EncodedDocument(id, fields, json, json_bytes, value)

    def normalize(self, id: Any, fields: Mapping[str, Any]) -> Fields:
        """Return the fields that the type has, defaults included, as they are stored."""
        return self.encode(self.decode(id, fields, 0))[1]

    def decode(
        self,
        id: Any,
        fields: Mapping[str, Any],
        version: int,
        types: tuple[type, ...] = STORED_TYPES,
    ) -> T:
        """Make a document of its id, its fields as they are stored, and its version.

        It may share values with the fields, but none with another document. JSON has no `types` of
        its own.
        """
        whole = {**fields, self._id_name: self.stored_id(id)}
        if self._version_name:
            whole[self._version_name] = version
        try:
            document = self._validate(whole, types)
        except msgspec.ValidationError as error:
            found = to_invalid_record(error)
            raise InvalidDocument(found.field, found.reason) from None
        return deepcopy(document) if self._shares_defaults else document

    def to_json(self, fields: Mapping[str, Any]) -> Fields:
        """Return stored fields as JSON."""
        return dict(msgspec.to_builtins({**fields}, enc_hook=_to_text))

    def to_history(self, fields: Mapping[str, Any]) -> Fields:
        """Return stored fields as events hold them: as JSON, without those that JSON can't hold.

        Only another program has stored such ones, in fields that no change has set since.
        """
        json = self.to_json(fields)
        try:
            check_json(json)
        except InvalidDocument:
            return {name: value for name, value in json.items() if _fits_json({name: value})}
        return json

    def from_json(self, id: Any, fields: Fields) -> Fields:
        """Return fields in JSON as they are stored."""
        return self.encode(self.decode(id, fields, 0, ()))[1]

    def parse_id(self, text: str) -> Any:
        """Return the id that has this text."""
        if self._id_type in (str, Any):
            return text
        if isinstance(self._id_type, type):
            return self._id_type(text)
        return msgspec.convert(text, self._id_type, strict=False)

    def stored_id(self, id: Any) -> Any:
        """Return an id as the document collection has it."""
        return str(id) if isinstance(id, UUID) else id

    def _validate(self, whole: Fields, types: tuple[type, ...]) -> T:
        if not self._is_pydantic:
            made: T = msgspec.convert(
                whole, self._kind, builtin_types=types, str_keys=True, dec_hook=_from_text
            )
            return made
        try:
            validated: T = self._kind.model_validate(whole, by_name=True, by_alias=False)
        except ValueError as error:
            first: Any = error.errors()[0] if hasattr(error, "errors") else {"msg": error}
            field = ".".join(map(str, first.get("loc", ())))
            raise InvalidDocument(field or "document", str(first["msg"])) from None
        return validated

    def _check_id(self, document: T) -> Any:
        id = getattr(document, self._id_attribute)
        text = str(id)
        if id is None or isinstance(id, bool | float) or not text or "\0" in text:
            raise InvalidDocument(self._id_name, f"is no id: {id!r}")
        if len(text) > MAX_ID_CHARS:
            raise InvalidDocument(self._id_name, f"has more than {MAX_ID_CHARS} characters")
        return id


def _wire_names(kind: Any) -> dict[str, str]:
    """Return the name that each field has when it is encoded."""
    if hasattr(kind, "model_fields"):
        return {name: name for name in kind.model_fields}
    if is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return {field.name: field.encode_name for field in _fields(kind)}
    raise DeclarationError(f"{kind!r} is no msgspec Struct, dataclass or pydantic model")


def _fields(kind: Any) -> Any:
    info: Any = msgspec.inspect.type_info(kind)
    return info.fields


def check_json(value: Fields) -> int:
    """Return a value's bytes as JSON.

    InvalidDocument names the first field whose value JSON, or a store, can't hold.
    """
    try:
        encoded = msgspec.json.encode(value)
        kept = parse_encoded(encoded)
    except InvalidRecord as error:
        raise InvalidDocument(error.field, error.reason) from None
    except ValueError as error:
        raise InvalidDocument("document", str(error)) from None
    if kept != value:
        raise InvalidDocument("document", "holds a number that JSON can't: infinite, or none")
    return len(encoded)


def _fits_json(value: Fields) -> bool:
    try:
        check_json(value)
    except InvalidDocument:
        return False
    return True


def _to_text(value: Any) -> str:
    return str(value)


def _from_text(kind: Any, value: Any) -> Any:
    return value if isinstance(value, kind) else kind(value)


def _truncate_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _truncate_times(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_truncate_times(inner) for inner in value]
    if isinstance(value, datetime):
        return truncate_to_milliseconds(value)
    return value
