"""`eventfleet send`: send one command and print its outcome."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventfleet.cli.number_types import Number
from eventfleet.cli.output import as_json, print_json, printable

if TYPE_CHECKING:
    from eventfleet.service.stage_waiter import WaitResult
    from eventfleet.stores.contracts import Stage
    from eventfleet.topics.event import ExpectedVersion

STATUSES = {
    "accepted": 0,
    "repeated": 0,
    "rejected": 3,
    "conflict": 3,
    "invalid": 4,
    "failed": 4,
    "late": 5,
    "unavailable": 6,
    "version-conflict": 7,
    "held-up": 8,
}
"""Exit status of each outcome; 1 is any other error before the command was sent, 2 wrong usage."""

MAX_VERSION = 2**63 - 1
STAGES = ("accepted", "appended", "snapshotted", "relayed", "projected")


class VersionType(click.ParamType):
    """An expected version: an integer from 0 on, or `*`."""

    name = "version"

    def convert(self, value: Any, param: Any, ctx: Any) -> "ExpectedVersion":
        text = str(value)
        if text == "*":
            return "*"
        if not (text.isascii() and text.isdecimal() and int(text) <= MAX_VERSION):
            self.fail(f"{text!r} is neither an integer from 0 to 2^63-1 nor '*'", param, ctx)
        return int(text)


@click.command()
@click.argument("name", metavar="DOMAIN")
@click.argument("aggregate_id", metavar="ID")
@click.argument("command")
@click.argument("payload", metavar="[JSON]", required=False)
@click.option(
    "-d",
    "--data",
    metavar="JSON",
    help="The payload, in place of the argument: JSON, @FILE, or - for standard input.",
)
@click.option(
    "--command-id",
    metavar="ID",
    help="Identifies the command, so that a repeat has no further effect; by default a new id.",
)
@click.option(
    "--expected-version",
    metavar="N",
    type=VersionType(),
    help="Do nothing unless the aggregate is at version N: 0 without events, '*' with any. For "
    "synchronous domains.",
)
@click.option(
    "--actor",
    metavar="NAME",
    help="Who sends the command; over a service with tokens that is the token's subject.",
)
@click.option(
    "--wait",
    type=click.Choice(STAGES),
    default="accepted",
    show_default=True,
    help="Stage of the event to wait for; from appended on, queries see it.",
)
@click.option(
    "--patience",
    type=Number(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds to wait for the outcome and the stage; then prints what was reached.",
)
@as_json
def send(
    name: str,
    aggregate_id: str,
    command: str,
    payload: str | None,
    data: str | None,
    command_id: str | None,
    expected_version: "ExpectedVersion | None",
    actor: str | None,
    wait: str,
    patience: float,
    json: bool,
) -> None:
    """Send one command to an aggregate and print its outcome.

    JSON is the command's payload, an object: the JSON itself, @FILE for a file, or - for standard
    input; {} by default.

    \b
    Exit status:
      0  accepted, now or by an earlier command of the same id
      1  not sent: a server or setting is missing
      2  wrong usage
      3  refused: a rule rejected it, its id belongs to another command, or
         concurrent changes won every retry
      4  invalid: the command or the request is not valid; or failed: the
         domain's code raised an error
      5  accepted, but its event did not reach the --wait stage in time
      6  unknown: nothing is known to be done; send it again with the same id
      7  conflict: the aggregate is at another version than the expected one
      8  accepted, but its event does not reach the --wait stage by itself: it is
         parked, discarded, superseded or unreadable
    """
    from eventfleet.stores.contracts import Stage
    from eventfleet.stores.ids import Uuid7Generator

    if payload is not None and data is not None:
        raise click.UsageError("JSON and --data: only one of them")
    parsed = _parse(_read(data if payload is None else payload))
    identity, wanted = command_id or Uuid7Generator().new(), Stage(wait)
    options = {"command_id": identity, "wait": wanted, "patience": patience, "actor": actor}
    options["expected_version"] = expected_version
    sending = _send(name, aggregate_id, command, parsed, options, is_new=not command_id)
    kind, answer = _outcome(sending, wanted)
    if json:
        print_json({"outcome": answer["outcome"], "command_id": identity, **answer})
    else:
        late = f"not {wait} within {patience:g} s"
        if answer["outcome"] == "repeated":
            late = f"not known to be {wait}: that was told to who sent it first"
        if kind == "held-up":
            late = _held_up(name, aggregate_id, wait, answer["disposition"])
        _print(kind, identity, answer, late)
    raise click.exceptions.Exit(STATUSES[kind])


def _read(payload: str | None) -> bytes:
    """The bytes of a payload, of the file that it names, or of standard input."""
    if payload is None:
        return b"{}"
    if payload in ("-", "@-"):
        return sys.stdin.buffer.read()
    if not payload.startswith("@"):
        return payload.encode()
    try:
        return Path(payload[1:]).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{payload[1:]} can't be read: {error.strerror}") from error


def _parse(payload: bytes) -> dict[str, Any]:
    from eventfleet.topics.codec import parse
    from eventfleet.topics.errors import InvalidRecord

    try:
        data = parse(payload)
    except InvalidRecord as error:
        part = "" if error.field == "value" else f"'s {error.field}"
        raise click.UsageError(f"the payload{part} {error.reason}") from error
    if not isinstance(data, dict):
        raise click.UsageError("the payload is not a JSON object")
    return data


def _outcome(sending: Any, wanted: "Stage") -> tuple[str, dict[str, Any]]:
    """The key of the outcome's status in STATUSES; its name, and what is known of it."""
    from eventfleet.cli.http_client import ServiceRefused
    from eventfleet.deciders.outcomes import (
        Failed,
        VersionConflict,
        name_outcome,
        outcome_fields,
    )
    from eventfleet.topics.errors import InvalidRecord

    try:
        result = asyncio.run(sending)
    except (InvalidRecord, ServiceRefused) as error:
        failed = isinstance(error, ServiceRefused) and error.is_failure
        kind = "failed" if failed else "invalid"
        return kind, {"outcome": kind, "reason": str(error)}
    kind = name_outcome(result.outcome)
    answer = {"outcome": kind, **outcome_fields(result.outcome)}
    if isinstance(result.outcome, Failed):
        answer["details"] = result.outcome.details
    if isinstance(result.outcome, VersionConflict):
        return "version-conflict", answer
    if result.stage:
        answer["stage"] = result.stage.value
    if result.disposition:
        answer["disposition"] = result.disposition._asdict()
        return "held-up", answer
    return "late" if result.stage not in (None, wanted) else kind, answer


async def _send(
    name: str,
    aggregate_id: str,
    command: str,
    data: dict[str, Any],
    options: dict[str, Any],
    *,
    is_new: bool,
) -> "WaitResult":
    from eventfleet.cli.http_client import http_client
    from eventfleet.runtime import connections
    from eventfleet.runtime.event_services import event_service
    from eventfleet.runtime.settings import load_settings

    settings = load_settings()
    if settings.service_url:
        async with http_client(settings, name) as client:
            return await client.send(aggregate_id, command, data, **options)
    domain = connections.select_domains(settings, [name])[name]
    async with event_service(settings, domain) as service:
        result: WaitResult = await service.send(
            aggregate_id, command, data, is_new=is_new, **options
        )
        return result


def _print(kind: str, command_id: str, answer: dict[str, Any], late: str) -> None:
    match kind:
        case "accepted" | "repeated" | "late" | "held-up":
            _print_accepted(answer)
            if kind in ("late", "held-up"):
                click.echo(late, err=True)
        case "rejected" | "conflict":
            click.echo(f"{kind}: {printable(answer['reason'])}")
        case "version-conflict":
            click.echo(f"conflict: {printable(answer['reason'])}")
            click.echo(
                "nothing is done: read the state again; if the command still applies, send it with "
                f"--expected-version {answer['version']}",
                err=True,
            )
        case "invalid" | "failed":
            click.echo(f"{kind}: {printable(answer['reason'])}", err=True)
            for line in answer.get("details", "").splitlines():
                click.echo(printable(line), err=True)
        case _:
            click.echo(f"unavailable: {printable(answer['reason'])}", err=True)
            click.echo(
                "nothing is known to be done; to send it again as the same command: "
                f"--command-id {printable(command_id)}",
                err=True,
            )


def _print_accepted(answer: dict[str, Any]) -> None:
    version = f", version {answer['version']}" if answer.get("version") else ""
    stage = f", {answer['stage']}" if answer["stage"] != "accepted" else ""
    event = f"event {answer['event_id']} in {answer['place']}"
    click.echo(f"{answer['outcome']}: {event}{version}{stage}")


def _held_up(name: str, aggregate_id: str, wait: str, disposition: dict[str, str]) -> str:
    """The line that says why an event does not reach a stage, and what to do."""
    kind, role, reason = (disposition[each] for each in ("kind", "role", "reason"))
    told = f"not {wait}: {kind}" + (f" in {role}" if role else "")
    told += f": {printable(reason)}" if reason else ""
    if kind == "parked":
        look = f"eventfleet deadletters show {name} {role} {printable(aggregate_id)}"
        return f"{told}\nlook at it: {look}"
    if kind == "discarded":
        return f"{told}: an operator has decided that it is passed over"
    return f"{told}\nit is among the dead letters of {name}: send the command anew, with another id"
