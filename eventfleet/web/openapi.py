"""The OpenAPI 3.1 document of the service, made from the operations and the domains."""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from inspect import cleandoc
from itertools import groupby
from typing import Any
from urllib.parse import quote

from msgspec.structs import fields

from eventfleet.model.command_rules import command_class, command_name
from eventfleet.model.domain import Domain
from eventfleet.topics.values import MAX_ID_CHARS
from eventfleet.web.bodies import (
    EVENT_STREAM,
    JSON,
    NDJSON,
    PROBLEM_JSON,
    AggregateState,
    EventPage,
    FeedPage,
    MissingEventsPage,
    ProblemDetails,
)
from eventfleet.web.context import ServicesByDomain
from eventfleet.web.operation import Operation
from eventfleet.web.preconditions import ETAG, ETAG_PATTERN, IF_MATCH, IF_NONE_MATCH
from eventfleet.web.problems import (
    AGGREGATE_REFUSED,
    BUSY,
    INVALID,
    SCOPE_MISSING,
    TOKEN_REFUSED,
    UNAVAILABLE,
    VERSION_CONFLICT,
    ProblemType,
)
from eventfleet.web.requests import LENIENT_HEADERS
from eventfleet.web.schemas import (
    Json,
    Schemas,
    add_domain,
    add_view,
    parameter_schemas,
    pascal_case,
    rows_parameter_schemas,
    shared_schemas,
)

COMMON_PROBLEMS = (INVALID, BUSY, UNAVAILABLE)
ID: Json = {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARS, "pattern": r"^[^\x00]+$"}
HEADER: Json = {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARS, "pattern": "^[ -~]+$"}
HEADERS: dict[str, Json] = {
    IF_MATCH: {"type": "string", "pattern": rf"^({ETAG_PATTERN}|\*)$"},
    IF_NONE_MATCH: {"type": "string", "pattern": r"^\*$"},
    **{name: {"type": "string"} for name in LENIENT_HEADERS},
}
"""The schemas of the headers that have another than HEADER."""

PRECONDITIONS = (IF_MATCH, IF_NONE_MATCH)
"""Headers of synchronous domains only: the others have no version when they decide."""

ETAG_BODIES = {AggregateState: True, MissingEventsPage: True, EventPage: False}
"""The bodies of responses with an ETag; False: not each response has one."""

STREAMED = {EventPage: (NDJSON, EVENT_STREAM), FeedPage: (EVENT_STREAM,)}
"""The media types in which bodies are streamed, too."""

UNTYPED_RESPONSES: dict[Any, tuple[str, str, Json]] = {
    str: ("Plain text", "text/plain", {"type": "string"}),
    dict: ("An OpenAPI 3.1 document", JSON, {"type": "object"}),
}


def describe(
    operations: Iterable[Operation], domains: ServicesByDomain, secured: bool, root_path: str
) -> Json:
    """Builds the document; `root_path` is the path that the service is mounted at."""
    operations = [*operations]
    shared = shared_schemas()
    shared.add([body for each in operations if each.domain for body in each.responses.values()])
    shared.add([each.body for each in operations if each.body])
    service = _Operations(None, shared, secured)
    by_domain = [
        _Operations(each.domain, add_domain(shared, each.domain), secured)
        for each in domains.values()
    ]
    paths: Json = {}
    for operation in operations:
        if operation.domain:
            described_by = [each for each in by_domain if each.name == operation.domain]
        else:
            described_by = by_domain if "{domain}" in operation.path else [service]
        for each in described_by:
            for path, described in each.describe(operation):
                paths.setdefault(path, {})[operation.method.lower()] = described
    bearer = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "eventfleet",
            "version": version("eventfleet"),
            "description": "Takes commands; returns events, snapshots and states.",
        },
        "servers": [{"url": root_path or "/"}],
        "paths": paths,
        "components": {"schemas": shared.components}
        | ({"securitySchemes": bearer} if secured else {}),
    }


class _Operations:
    """Describes the operations of one domain, or those of the service itself."""

    def __init__(self, domain: Domain[Any] | None, schemas: Schemas, secured: bool) -> None:
        self._domain, self._secured = domain, secured
        self._schemas, self._refs = schemas, schemas.refs

    @property
    def name(self) -> str:
        """The domain's name."""
        return self._domain.name if self._domain else ""

    def describe(self, operation: Operation) -> Iterable[tuple[str, Json]]:
        """Yields paths and their descriptions: sending has one path per declared command."""
        domain = self._domain
        path = operation.path.replace("{domain}", domain.name if domain else "")
        if domain is not None and operation.name == "rows":
            yield from self._describe_views(path, operation, domain)
            return
        if domain is None or operation.name != "send":
            body = _request_body(self._refs[operation.body]) if operation.body else {}
            yield path, self._describe_at(path, operation) | body
            return
        for rule in domain.commands:
            name, kind = command_name(rule), command_class(rule)
            command_path = path.replace("{command}", quote(name, safe=""))
            needed = kind is None or any(each.required for each in fields(kind))
            schema = self._refs[kind] if kind else {"type": "object"}
            body = _request_body(schema, required=needed)
            described = self._describe_at(command_path, operation, name)
            if told := kind and kind.__dict__.get("__doc__"):
                described["summary"] = " ".join(cleandoc(told).partition("\n\n")[0].split())
            yield command_path, described | body
        if domain.schema_free and not domain.uses_marker:
            yield path, self._describe_at(path, operation) | _request_body({"type": "object"})

    def _describe_views(
        self, path: str, operation: Operation, domain: Domain[Any]
    ) -> Iterable[tuple[str, Json]]:
        for table in (table for view in domain.views for table in view.tables):
            view_path = path.replace("{view}", table.name)
            page = add_view(self._schemas, table, pascal_case(domain.name))
            described = self._describe_at(view_path, operation, table.name)
            described["parameters"] = list(rows_parameter_schemas(table))
            described["responses"]["200"]["content"] = {JSON: {"schema": page}}
            yield view_path, described

    def _describe_at(self, path: str, operation: Operation, command: str = "") -> Json:
        domain = self._domain.name if self._domain else ""
        summary, _, more = cleandoc(operation.handler.__doc__ or "").partition("\n\n")
        access = (
            (TOKEN_REFUSED, SCOPE_MISSING, AGGREGATE_REFUSED)
            if self._secured and operation.right not in ("", "optional")
            else ()
        )
        open_too: list[Json] = [{}] if operation.right == "optional" else []
        described: Json = {
            "operationId": "-".join(filter(None, [operation.name, domain, command])),
            "summary": " ".join(summary.split()),
            "tags": [domain or "service"],
            "parameters": list(_parameters(operation, path, self._headers(operation))),
            "responses": self._problems([*self._own_problems(operation), *COMMON_PROBLEMS, *access])
            | self._responses(operation),
        }
        described |= {"description": " ".join(more.split())} if more else {}
        described |= {"deprecated": True} if operation.deprecated else {}
        has_security = self._secured and operation.right
        return described | ({"security": [*open_too, {"bearer": []}]} if has_security else {})

    @property
    def _synchronous(self) -> bool:
        return bool(self._domain and self._domain.synchronous)

    def _headers(self, operation: Operation) -> list[str]:
        return [
            name for name in operation.headers if self._synchronous or name not in PRECONDITIONS
        ]

    def _own_problems(self, operation: Operation) -> list[ProblemType]:
        return [
            kind for kind in operation.problems if self._synchronous or kind is not VERSION_CONFLICT
        ]

    def _responses(self, operation: Operation) -> Json:
        described = {
            str(status): self._response(kind) for status, kind in operation.responses.items()
        }
        if self._synchronous and "200" in described:
            described.pop("202", None)
        return described

    def _response(self, kind: Any) -> Json:
        if kind in UNTYPED_RESPONSES:
            description, media_type, schema = UNTYPED_RESPONSES[kind]
            return {"description": description, "content": {media_type: {"schema": schema}}}
        content: Json = {JSON: {"schema": self._refs[kind]}}
        for media_type in STREAMED.get(kind, ()):
            content[media_type] = {"schema": {"type": "string"}}
        described = {"description": " ".join(kind.__doc__.split()), "content": content}
        if kind in ETAG_BODIES:
            described["headers"] = _etag_header(ETAG_BODIES[kind])
        return described

    def _problems(self, kinds: Sequence[ProblemType]) -> Json:
        ordered = sorted({(kind.status, kind.type, kind.title) for kind in kinds})
        headers = {str(kind.status): _problem_headers(kind) for kind in kinds if kind.headers}
        headers[str(VERSION_CONFLICT.status)] = {"headers": _etag_header(required=True)}
        content = {PROBLEM_JSON: {"schema": self._refs[ProblemDetails]}}
        return {
            str(status): {
                "description": "; ".join(f"`{name}`: {title}" for _, name, title in group),
                "content": content,
                **headers.get(str(status), {}),
            }
            for status, group in groupby(ordered, key=lambda kind: kind[0])
        }


def _problem_headers(kind: ProblemType) -> Json:
    return {"headers": {name: {"schema": {"type": "string"}} for name in kind.headers}}


def _etag_header(required: bool) -> Json:
    described = "The aggregate's version, for the `If-Match` of a command to a synchronous domain."
    schema = {"type": "string", "pattern": f"^{ETAG_PATTERN}$"}
    return {ETAG: {"description": described, "required": required, "schema": schema}}


def _request_body(schema: Json, *, required: bool = True) -> Json:
    return {"requestBody": {"required": required, "content": {JSON: {"schema": schema}}}}


def _parameters(operation: Operation, path: str, headers: Iterable[str]) -> Iterable[Json]:
    for name in ("id", "command", "message"):
        if f"{{{name}}}" in path:
            yield {"name": name, "in": "path", "required": True, "schema": ID}
    for name in headers:
        yield {"name": name, "in": "header", "schema": HEADERS.get(name, HEADER)}
    yield from parameter_schemas(operation.parameters)
