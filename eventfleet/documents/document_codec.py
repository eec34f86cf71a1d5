"""DocumentCodec: encodes typed documents for the store and for events, and back.

A document's fields have two forms. Stored, times are dates, which queries compare; in events they
are JSON. In both, times are UTC in whole milliseconds, which is what a stored date keeps.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import is_dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints
from uuid import UUID

import msgspec
from msgspec import inspect

from eventfleet.documents.errors import InvalidDocument
from eventfleet.documents.exact_types import INEXACT_TYPES, TIME_TYPES, may_hold
from eventfleet.model.errors import DeclarationError
from eventfleet.model.value_copy import has_shared_defaults
from eventfleet.topics.codec import parse_encoded, to_invalid_record
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import truncate_to_milliseconds
from eventfleet.topics.values import NESTED_TOO_DEEP, check_identifier, require_finite

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
        self._convert: Any = self._convert_model
        if not self._is_pydantic:
            self._convert = partial(msgspec.convert, type=kind, str_keys=True, dec_hook=_from_text)
        self._shares_defaults = has_shared_defaults(kind)
        self._is_exact = not may_hold(kind, INEXACT_TYPES)
        self._declares_decimals = may_hold(kind, (inspect.DecimalType,))
        self._may_hold_times = may_hold(kind, TIME_TYPES)

    @property
    def type_name(self) -> str:
        return str(self._kind.__name__)

    def encode(self, document: T) -> Fields:
        """Return a document's fields as they are stored."""
        if not isinstance(document, self._kind):
            raise InvalidDocument("document", f"is no {self.type_name}, but {document!r:.80}")
        value = document.model_dump(warnings=False) if self._is_pydantic else document
        try:
            fields: Fields = msgspec.to_builtins(
                value, builtin_types=STORED_TYPES, str_keys=True, enc_hook=_to_text
            )
            if self._may_hold_times:
                fields = _truncate_times(fields)
        except RecursionError:
            raise InvalidDocument("document", NESTED_TOO_DEEP) from None
        except (TypeError, ValueError) as error:
            raise InvalidDocument("document", str(error)) from None
        if self._version_name:
            fields.pop(self._version_name, None)
        fields.pop(self._id_name)
        return fields

    def encode_valid(self, document: T, version: int, stored_id: Any = None) -> EncodedDocument:
        """Encode a document that a program has made, and read it back at a version.

        Where the type may make something else of what it has encoded, that is stored instead.
        InvalidDocument: it is no longer the document with the stored id, a field is of another
        type, or JSON can't hold its value.
        """
        fields, id = self.encode(document), getattr(document, self._id_attribute)
        if version == 1:
            self._check_id(id)
        if stored_id is not None and str(id) != str(stored_id):
            raise InvalidDocument(self._id_attribute, f"was {stored_id}, and is now {id}")
        json, json_bytes = to_valid_json(fields)
        if self._declares_decimals:
            _require_finite_decimals(document)
        value = self.decode(id, fields, version)
        if not self._is_exact:
            fields = self.encode(value)
            json = self.to_json(fields)
        return EncodedDocument(id, fields, json, json_bytes, value)

    def normalize(self, id: Any, fields: Mapping[str, Any]) -> Fields:
        """Return the fields that the type has, defaults included, as they are stored."""
        return self.encode(self.decode(id, fields, 0))

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
        whole = {**fields, self._id_name: str(id) if isinstance(id, UUID) else id}
        if self._version_name:
            whole[self._version_name] = version
        try:
            document: T = self._convert(whole, builtin_types=types)
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
        try:
            return to_valid_json(fields)[0]
        except InvalidDocument:
            json = self.to_json(fields)
            return {name: value for name, value in json.items() if _fits_json({name: value})}

    def from_json(self, id: Any, fields: Fields) -> Fields:
        """Return fields in JSON as they are stored."""
        return self.encode(self.decode(id, fields, 0, ()))

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

    def _convert_model(self, whole: Fields, builtin_types: tuple[type, ...]) -> T:
        try:
            validated: T = self._kind.model_validate(whole, by_name=True, by_alias=False)
        except ValueError as error:
            first: Any = error.errors()[0] if hasattr(error, "errors") else {"msg": error}
            field = ".".join(map(str, first.get("loc", ())))
            raise InvalidDocument(field or "document", str(first["msg"])) from None
        return validated

    def _check_id(self, id: Any) -> None:
        if id is None or isinstance(id, bool | float):
            raise InvalidDocument(self._id_name, f"is no id: {id!r}")
        try:
            check_identifier(str(id))
        except ValueError as error:
            raise InvalidDocument(self._id_name, str(error)) from None


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


def to_valid_json(fields: Mapping[str, Any]) -> tuple[Fields, int]:
    """Return stored fields as JSON, and their bytes.

    InvalidDocument names the first field whose value JSON, or a store, can't hold.
    """
    try:
        encoded = msgspec.json.encode(fields, enc_hook=_to_text)
        json: Fields = parse_encoded(encoded)
        plain: Fields = msgspec.to_builtins(fields, enc_hook=_to_text)
        if json != plain:
            for name, value in plain.items():
                require_finite(value, name)
            raise InvalidRecord("document", "does not read back from JSON as it was")
    except InvalidRecord as error:
        raise InvalidDocument(error.field, error.reason) from None
    except RecursionError:
        raise InvalidDocument("document", NESTED_TOO_DEEP) from None
    except ValueError as error:
        raise InvalidDocument("document", f"is not JSON: {error}") from None
    return json, len(encoded)


def _require_finite_decimals(document: Any) -> None:
    """InvalidDocument names the first field with a Decimal that is infinite, or none."""
    value = document.model_dump(warnings=False) if hasattr(document, "model_dump") else document
    plain: Fields = msgspec.to_builtins(
        value, builtin_types=(*STORED_TYPES, Decimal), str_keys=True, enc_hook=_to_text
    )
    try:
        for name, each in plain.items():
            require_finite(each, name)
    except InvalidRecord as error:
        raise InvalidDocument(error.field, error.reason) from None


def _fits_json(value: Fields) -> bool:
    try:
        to_valid_json(value)
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
