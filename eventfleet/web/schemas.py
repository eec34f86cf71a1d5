"""JSON Schemas (2020-12) of bodies, payloads and states, from msgspec's descriptions of the types.

A schema has the name of its Python class; in front of a domain's own types stands the domain's
name: `CommandResult`, `BankDeposit`. Its title is the same, since client generators name classes
after one or the other.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

import msgspec

from eventfleet.model.command_rules import command_class
from eventfleet.model.domain import Domain
from eventfleet.model.views import Table, Totals
from eventfleet.stores.contracts.views import Comparison
from eventfleet.stores.readiness_report import ReadinessReport
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import wire_name
from eventfleet.web import bodies
from eventfleet.web.parameters import ROWS_PARAMETERS, PageParameters, QueryParameters

Json = dict[str, Any]

REF_PREFIX = "#/components/schemas/"
SHARED_BODIES = (
    bodies.CommandResult,
    bodies.DomainList,
    bodies.AggregatePage,
    bodies.ProblemDetails,
    bodies.AggregateDiff,
    bodies.ViewPage,
    bodies.DeadLetterPage,
    bodies.RedriveResult,
    bodies.DiscardResult,
    ReadinessReport,
)
"""The same in all domains."""
DOMAIN_BODIES = (
    bodies.EventPage,
    bodies.FeedPage,
    bodies.MissingEventsPage,
    bodies.AggregateState,
    bodies.AggregateSnapshot,
    EventRecord,
)
"""Bodies that contain a domain's own types."""
INT64 = {"minimum": -(2**63), "maximum": 2**63 - 1}


@dataclass
class Schemas:
    """The schemas of a document by name, and references to them by type."""

    components: Json = field(default_factory=dict)
    refs: dict[Any, Json] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    def of_domain(self) -> "Schemas":
        """Returns the same schemas with references of their own."""
        return Schemas(self.components, dict(self.refs), self._used)

    def add(self, types: Sequence[Any], prefix: str = "") -> None:
        """Adds types, and the types in them, under names with this prefix.

        If msgspec cannot describe one of them, such as a state with foreign types, each may be any
        object.
        """
        try:
            refs, found = msgspec.json.schema_components(types, ref_template="{name}")
        except (TypeError, KeyError, ValueError):
            refs = tuple({"$ref": kind.__name__} for kind in types)
            found = {kind.__name__: {"type": "object"} for kind in types}
        names = {name: self.reserve(prefix + name) for name in found}
        self.refs |= dict(zip(types, _tidy(list(refs), names), strict=True))
        for name, schema in found.items():
            self.put(names[name], _tidy(schema, names))

    def put(self, name: str, schema: Json) -> None:
        """Sets the schema of a name."""
        self.components[name] = schema | {"title": name}

    def resolve(self, kind: Any) -> tuple[str, Json]:
        """Returns the name and the schema of a type."""
        name = self.refs[kind]["$ref"].removeprefix(REF_PREFIX)
        return name, self.components[name]

    def reserve(self, name: str) -> str:
        """Returns the name, with a number if a reserved one has the same letters and digits.

        Client generators drop other characters and case.
        """
        candidates = chain([name], (f"{name}{number}" for number in count(2)))
        unused = next(each for each in candidates if _letters(each) not in self._used)
        self._used.add(_letters(unused))
        return unused


def shared_schemas() -> Schemas:
    """Describes the bodies that all domains share."""
    schemas = Schemas()
    schemas.add(SHARED_BODIES)
    return schemas


def add_domain(shared: Schemas, domain: Domain[Any]) -> Schemas:
    """Describes a domain's commands, events and state, and the bodies that contain them.

    They are added to the shared components; the references are the domain's own.
    """
    schemas, prefix = shared.of_domain(), pascal_case(domain.name)
    commands = [kind for rule in domain.commands if (kind := command_class(rule))]
    schemas.add([*commands, *domain.events, domain.state], prefix)
    schemas.add(DOMAIN_BODIES, prefix)
    _type_event_record(schemas, domain)
    for body in (bodies.AggregateState, bodies.AggregateSnapshot):
        _, schema = schemas.resolve(body)
        schema["properties"]["state"] = schemas.refs[domain.state]
    return schemas


def _type_event_record(schemas: Schemas, domain: Domain[Any]) -> None:
    """Replaces the event record by one record per event type, with its payload."""
    name, record = schemas.resolve(EventRecord)
    refs: dict[str, str] = {}
    for kind in domain.events:
        event_type = wire_name(kind)
        typed_name = schemas.reserve(f"{schemas.resolve(kind)[0]}Record")
        typed = {"type": {"const": event_type}, "data": schemas.refs[kind]}
        described = {
            "description": f"An event of type {event_type}: its envelope and payload.",
            "properties": record["properties"] | typed,
        }
        schemas.put(typed_name, record | described)
        refs[event_type] = REF_PREFIX + typed_name
    if refs:
        union = {
            "description": f"An event of the domain {domain.name}.",
            "oneOf": [{"$ref": ref} for ref in refs.values()],
            "discriminator": {"propertyName": "type", "mapping": refs},
        }
        schemas.put(name, union)


def add_view(schemas: Schemas, table: Table, prefix: str) -> Json:
    """Describes a page of a view's rows; returns the reference to it."""
    schemas.add([table.row], prefix)
    text: Json = {"type": "string"}
    row: Json = {"row": schemas.refs[table.row]}
    if not isinstance(table, Totals):
        row |= {"aggregate_id": text, "key": text}
    page = schemas.reserve(f"{prefix}{pascal_case(table.name)}Page")
    rows = {"type": "object", "properties": row, "required": list(row)}
    schemas.put(
        page,
        {
            "type": "object",
            "description": f"Rows of {table.name}. `next` is the value of `from` for the next "
            "page; null on the last one.",
            "properties": {
                "rows": {"type": "array", "items": rows},
                "next": {"anyOf": [text, {"type": "null"}]},
            },
            "required": ["rows", "next"],
        },
    )
    return {"$ref": REF_PREFIX + page}


def rows_parameter_schemas(table: Table) -> Iterable[Json]:
    """Describes the query parameters of a view: the page, the order, and the filters."""
    yield from parameter_schemas(PageParameters)
    yield _query_parameter("order", {"type": "string", "enum": order_names(table)})
    for name, kind, is_list in filter_types(table):
        schema = _tidy(msgspec.json.schema(kind), {})
        yield _query_parameter(name, {"type": "string"} if is_list else schema)


def _query_parameter(name: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def order_names(table: Table) -> list[str]:
    """Returns the values of `order`."""
    names = [field.name for field in msgspec.structs.fields(table.row)]
    return [*names, *(f"-{name}" for name in names)]


def filter_types(table: Table) -> Iterator[tuple[str, Any, bool]]:
    """Yields the name of each filter, the type of its value, and whether it takes a list.

    Fields whose values can't be written in a URL have none.
    """
    for each in msgspec.structs.fields(table.row):
        for comparison in Comparison if _is_plain(each.type) else ():
            short = comparison is Comparison.EQUAL and each.name not in ROWS_PARAMETERS
            name = each.name if short else f"{each.name}.{comparison.value}"
            yield name, each.type, comparison is Comparison.IN


def _is_plain(kind: Any) -> bool:
    try:
        described = msgspec.json.schema(kind)
    except TypeError:
        return False
    return described.get("type") in ("string", "integer", "number", "boolean")


def parameter_schemas(kind: type[QueryParameters]) -> Iterable[Json]:
    """Describes query parameters, with the types in them: no component has these."""
    _, found = msgspec.json.schema_components([kind], ref_template="{name}")
    schema = found[kind.__name__]
    for name, described in schema["properties"].items():
        required, whole = name in schema["required"], _tidy(_inline(described, found), {})
        yield {"name": name, "in": "query", "required": required, "schema": whole}


def _inline(schema: Any, types: Json) -> Any:
    """Replaces references to types by their schemas."""
    if isinstance(schema, list):
        return [_inline(each, types) for each in schema]
    if not isinstance(schema, dict):
        return schema
    referred = types.get(schema.get("$ref", ""), {})
    inlined = {name: _inline(value, types) for name, value in schema.items() if name != "$ref"}
    return _inline(referred, types) | inlined if referred else schema | inlined


def pascal_case(name: str) -> str:
    """Converts a domain's name: process_log becomes ProcessLog."""
    return "".join(part[:1].upper() + part[1:] for part in re.split("[_-]+", name))


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _tidy(schema: Any, names: Mapping[str, str]) -> Any:
    """Adds what msgspec omits: integers are 64-bit, and Python's `\\Z` is `$` elsewhere."""
    if isinstance(schema, list):
        return [_tidy(each, names) for each in schema]
    if not isinstance(schema, dict):
        return schema
    tidied = {name: _tidy(value, names) for name, value in schema.items()}
    if isinstance(ref := tidied.get("$ref"), str):
        tidied["$ref"] = REF_PREFIX + names.get(ref, ref)
    if tidied.get("type") == "integer":
        tidied = {"format": "int64"} | INT64 | tidied
    if isinstance(pattern := tidied.get("pattern"), str) and pattern.endswith(r"\Z"):
        tidied["pattern"] = pattern.removesuffix(r"\Z") + "$"
    if isinstance(text := tidied.get("description"), str):
        tidied["description"] = " ".join(text.split())
    if isinstance(values := tidied.get("enum"), list) and len(values) == 1:
        del tidied["enum"]
        tidied["const"] = values[0]
    return tidied
