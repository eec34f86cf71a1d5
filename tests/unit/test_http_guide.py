"""The guide to HTTP has all requests, scopes, parameters, headers, stages and problems in code."""

import re
from pathlib import Path
from typing import Any

from msgspec.structs import fields

from eventfleet.stores.contracts import DispositionKind, Stage
from eventfleet.web import LocalAccess, problems
from eventfleet.web.access import ALL_DOMAINS, METRICS
from eventfleet.web.application import OPERATIONS, Application
from eventfleet.web.bound_aggregates import IDS_CLAIM, PREFIXES_CLAIM
from eventfleet.web.commands import send
from eventfleet.web.feed_sockets import FeedPath
from eventfleet.web.operation import Operation

GUIDE = (Path(__file__).parents[2] / "docs/guides/http.md").read_text()
SOCKET = FeedPath().path
SCOPES = {
    **{right: f"`DOMAIN:{right}`" for right in ("read", "write", "operate")},
    "metrics": f"`{METRICS}` or `{ALL_DOMAINS}:read`",
    "token": "any token",
    "optional": "none; for names `DOMAIN:operate` of all domains",
    "": "none",
}


def table(first: str) -> list[list[str]]:
    """The rows of the table whose head begins so."""
    _head, _, rest = GUIDE.partition(f"\n| {first} |")
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def operations() -> list[Operation]:
    return Application({}, LocalAccess())._operations


def bounds(operation: Operation) -> str:
    """Returns what the guide says that a bound token gets."""
    if operation.name == "rows":
        return "rows of its own; no totals"
    if operation.name == "feed":
        return "its own as they come; no pages"
    if operation.right == "optional":
        return "any; no names"
    if not operation.right:
        return "any"
    if operation.keeps_bounds:
        return "names"
    return "its own" if "{id}" in operation.path else "refused"


def test_the_table_has_each_request_with_its_scope_and_what_bounds_leave_of_it() -> None:
    told = {
        request.partition("?")[0]: (scope, bound)
        for _, requests, scope, bound in table("operation")
        for request in code(requests)
    }
    assert told.pop(f"GET {SOCKET}") == (
        "`DOMAIN:read`; to send commands `DOMAIN:write` too",
        "its own",
    )
    assert told == {f"{o.method} {o.path}": (SCOPES[o.right], bounds(o)) for o in operations()}


def test_the_table_has_all_parameters_of_queries() -> None:
    told = {}
    for row in table("operation"):
        for request in code(row[1]):
            path, _, query = request.partition("?")
            told[path] = {name.removesuffix("=") for name in query.split("&") if query}
    del told[f"GET {SOCKET}"]
    assert told == {
        f"{o.method} {o.path}": {f.encode_name for f in fields(o.parameters)} - {"filters"}
        for o in operations()
    }


def test_the_headers_of_a_command_are_all_explained() -> None:
    [sending] = [each for each in OPERATIONS if each.handler is send]
    told = [name for row in table("header of a command") for name in code(row[0])]
    assert sorted(told) == sorted(sending.headers)


def test_each_problem_is_named_beside_its_status() -> None:
    kinds = [each for each in vars(problems).values() if isinstance(each, problems.ProblemType)]
    told: dict[str, set[int]] = {}
    for statuses, text in table("status"):
        for name in code(text):
            told.setdefault(name, set()).update(int(each) for each in statuses.split(", "))
    assert {
        kind.name: kind.status for kind in kinds if kind.status not in told.get(kind.name, ())
    } == {}
    names = {name for name in told if re.fullmatch("[a-z]+(-[a-z]+)+", name)}
    assert names <= {kind.name for kind in kinds}


def words(kind: Any) -> set[str]:
    return {each.value for each in kind}


def test_stages_dispositions_scopes_and_claims_are_named() -> None:
    named = set(code(re.sub(r"```.*?```", "", GUIDE, flags=re.DOTALL)))
    assert words(Stage) <= {name.removeprefix("?wait=") for name in named}
    assert words(DispositionKind) <= named
    assert {IDS_CLAIM, PREFIXES_CLAIM, "scope", "scp", "roles", METRICS, "*:read"} <= named
