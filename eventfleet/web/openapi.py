"""The OpenAPI 3.1 description of the service, from the domains' declarations."""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from inspect import cleandoc
from itertools import groupby
from typing import Any
from urllib.parse import quote

from eventfleet.model.command_rules import command_class, command_name
from eventfleet.model.domain import Domain
from eventfleet.topics.event import MAX_ID
from eventfleet.web.bodies import JSON, LINES, PROBLEM, EventsBody, ProblemBody
from eventfleet.web.context import ServicesByDomain
from eventfleet.web.operation import Operation
from eventfleet.web.parameters import LENIENT
from eventfleet.web.problems import BUSY, INVALID, SCOPE, TOKEN, UNAVAILABLE, ProblemType
from eventfleet.web.schemas import Json, Schemas, of_bodies, of_domain, of_parameters

ALWAYS = (INVALID, BUSY, UNAVAILABLE)
ID: Json = {"type": "string", "minLength": 1, "maxLength": MAX_ID, "pattern": r"^[^\x00]+$"}
HEADER: Json = {"type": "string", "minLength": 1, "maxLength": MAX_ID, "pattern": "^[ -~]+$"}
PLAIN: dict[Any, tuple[str, Json]] = {
    str: ("text/plain", {"type": "string"}),
    dict: (JSON, {"type": "object"}),
}


def describe(
    operations: Iterable[Operation], domains: ServicesByDomain, secured: bool, root: str
) -> Json:
    """The document; `root` is the path that the service is mounted at."""
    shared = of_bodies()
    described = [_Domain(served.domain, shared) for served in domains.values()]
    paths: Json = {}
    for operation in operations:
        for each in described if "{domain}" in operation.path else [_Domain(None, shared)]:
            for path, told in each.paths(operation, secured):
                paths.setdefault(path, {})[operation.method.lower()] = told
    schemas = shared.components
    for each in described:
        schemas |= each.schemas.components
    bearer = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "eventfleet",
            "version": version("eventfleet"),
            "description": "Commands in; events, snapshots and states out.",
        },
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {"schemas": schemas} | ({"securitySchemes": bearer} if secured else {}),
    }


class _Domain:
    """The operations in one domain, or those that are in none."""

    def __init__(self, domain: Domain[Any] | None, shared: Schemas) -> None:
        self._domain = domain
        self.schemas = of_domain(domain) if domain else Schemas()
        self._refs = shared.refs | self.schemas.refs

    def paths(self, operation: Operation, secured: bool) -> Iterable[tuple[str, Json]]:
        """With what each does; the path of a command once for each that is declared."""
        domain = self._domain
        path = operation.path.replace("{domain}", domain.name if domain else "")
        if domain is None or operation.name != "send":
            yield path, self._told(operation, path, secured)
            return
        for declared in domain.commands:
            name, kind = command_name(declared), command_class(declared)
            at = path.replace("{command}", quote(name, safe=""))
            body = _body(self._refs[kind] if kind else {"type": "object"})
            yield at, self._told(operation, at, secured, name) | body
        if domain.schema_free and not domain.uses_marker:
            yield path, self._told(operation, path, secured) | _body({"type": "object"})

    def _told(self, operation: Operation, path: str, secured: bool, command: str = "") -> Json:
        domain = self._domain.name if self._domain else ""
        summary, _, more = cleandoc(operation.handle.__doc__ or "").partition("\n\n")
        access = (TOKEN, SCOPE) if secured and operation.right else ()
        told: Json = {
            "operationId": "-".join(filter(None, [operation.name, domain, command])),
            "summary": " ".join(summary.split()),
            "tags": [domain or "service"],
            "parameters": list(_parameters(operation, path)),
            "responses": self._answers(operation)
            | self._problems([*operation.problems, *ALWAYS, *access]),
        }
        told |= {"description": " ".join(more.split())} if more else {}
        return told | ({"security": [{"bearer": []}]} if access else {})

    def _answers(self, operation: Operation) -> Json:
        told = {str(status): self._answer(kind) for status, kind in operation.answers.items()}
        if self._domain and self._domain.synchronous:
            told.pop("202", None)
        return told

    def _answer(self, kind: Any) -> Json:
        if kind in PLAIN:
            media, schema = PLAIN[kind]
            return {"description": "As it is", "content": {media: {"schema": schema}}}
        content: Json = {JSON: {"schema": self._refs[kind]}}
        if kind is EventsBody:
            content[LINES] = {"schema": {"type": "string"}}
        return {"description": cleandoc(kind.__doc__), "content": content}

    def _problems(self, kinds: Sequence[ProblemType]) -> Json:
        ordered = sorted({(kind.status, kind.type, kind.title) for kind in kinds})
        headers = {str(kind.status): _headers(kind) for kind in kinds if kind.headers}
        content = {PROBLEM: {"schema": self._refs[ProblemBody]}}
        return {
            str(status): {
                "description": "; ".join(f"`{name}`: {title}" for _, name, title in group),
                "content": content,
                **headers.get(str(status), {}),
            }
            for status, group in groupby(ordered, key=lambda kind: kind[0])
        }


def _headers(kind: ProblemType) -> Json:
    return {"headers": {name: {"schema": {"type": "string"}} for name in kind.headers}}


def _body(schema: Json) -> Json:
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}


def _parameters(operation: Operation, path: str) -> Iterable[Json]:
    for name in ("id", "command"):
        if f"{{{name}}}" in path:
            yield {"name": name, "in": "path", "required": True, "schema": ID}
    for name in operation.headers:
        schema = {"type": "string"} if name in LENIENT else HEADER
        yield {"name": name, "in": "header", "schema": schema}
    yield from of_parameters(operation.parameters)
