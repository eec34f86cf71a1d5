"""JSON Schemas (2020-12) of bodies, payloads and states, by what msgspec says of their types."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from eventfleet.model.command_rules import command_class
from eventfleet.model.domain import Domain
from eventfleet.topics.event import EventRecord
from eventfleet.web import bodies
from eventfleet.web.parameters import Parameters

Json = dict[str, Any]

AT = "#/components/schemas/"
BODIES = (
    bodies.SentBody,
    bodies.DomainsBody,
    bodies.AggregatesBody,
    bodies.ProblemBody,
    bodies.DiffBody,
    EventRecord,
)
"""The same in all domains."""
TYPED = (
    bodies.EventsBody,
    bodies.FeedBody,
    bodies.MissingBody,
    bodies.StateBody,
    bodies.SnapshotBody,
)
"""Those that hold a domain's own types."""
INT64 = {"minimum": -(2**63), "maximum": 2**63 - 1}


@dataclass
class Schemas:
    """Schemas by name, and where the schema of each type is."""

    components: Json = field(default_factory=dict)
    refs: dict[Any, Json] = field(default_factory=dict)

    def add(self, kinds: Sequence[Any], template: str = "{name}") -> None:
        """Add types, under names made by the template.

        One that has no schema, such as a state with a type of its own in it, may be anything.
        """
        try:
            refs, found = msgspec.json.schema_components(kinds, ref_template=AT + template)
        except (TypeError, KeyError, ValueError):
            refs, found = _unknown(kinds, template)
        self.refs |= dict(zip(kinds, refs, strict=True))
        named = {template.format(name=name): _tidy(schema) for name, schema in found.items()}
        self.components |= named


def of_bodies() -> Schemas:
    """What all domains share."""
    schemas = Schemas()
    schemas.add(BODIES)
    return schemas


def of_domain(domain: Domain[Any]) -> Schemas:
    """A domain's commands, events and state, and the bodies that hold them."""
    schemas, name = Schemas(), domain.name
    commands = [kind for declared in domain.commands if (kind := command_class(declared))]
    schemas.add([*commands, *domain.events, domain.state], f"{name}.{{name}}")
    schemas.add(TYPED, f"{{name}}.{name}")
    schemas.components[f"{EventRecord.__name__}.{name}"] = _event(domain, schemas)
    for holder in (bodies.StateBody, bodies.SnapshotBody):
        body = schemas.components[f"{holder.__name__}.{name}"]
        body["properties"]["state"] = schemas.refs[domain.state]
    return schemas


def _event(domain: Domain[Any], schemas: Schemas) -> Json:
    """The envelope, with the payload that each type has."""
    payloads = [
        {"properties": {"type": {"const": kind.__name__}, "data": schemas.refs[kind]}}
        for kind in domain.events
    ]
    envelope = {"$ref": AT + EventRecord.__name__}
    return {"allOf": [envelope, *([{"oneOf": payloads}] if payloads else [])]}


def of_parameters(kind: type[Parameters]) -> Iterable[Json]:
    """Parameters behind the `?`; types with names of their own are those of the bodies."""
    _, found = msgspec.json.schema_components([kind], ref_template=AT + "{name}")
    schema = found[kind.__name__]
    for name, told in schema["properties"].items():
        required = name in schema["required"]
        yield {"name": name, "in": "query", "required": required, "schema": _tidy(told)}


def _unknown(kinds: Sequence[Any], template: str) -> tuple[tuple[Json, ...], Json]:
    refs = tuple({"$ref": AT + template.format(name=kind.__name__)} for kind in kinds)
    return refs, {kind.__name__: {"type": "object"} for kind in kinds}


def _tidy(schema: Any) -> Any:
    """What msgspec leaves unsaid: integers are 64-bit, and `\\Z` of Python is `$` elsewhere."""
    if isinstance(schema, list):
        return [_tidy(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    told = {name: _tidy(value) for name, value in schema.items()}
    if told.get("type") == "integer":
        told = {"format": "int64"} | INT64 | told
    if isinstance(pattern := told.get("pattern"), str) and pattern.endswith(r"\Z"):
        told["pattern"] = pattern.removesuffix(r"\Z") + "$"
    return told
