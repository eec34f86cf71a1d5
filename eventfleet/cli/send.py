"""`eventfleet send`: one command, and what became of it."""

import asyncio
from typing import TYPE_CHECKING, Any

import click

from eventfleet.cli.output import as_json, print_json, printable

if TYPE_CHECKING:
    from eventfleet.service.stage_waiter import WaitResult
    from eventfleet.stores.contracts import Stage

STATUS = {"accepted": 0, "repeated": 0, "rejected": 3, "conflict": 4, "unavailable": 1}
NOT_THERE_YET = 5
STAGES = ("accepted", "appended", "snapshotted", "relayed")


@click.command()
@click.argument("name", metavar="DOMAIN")
@click.argument("aggregate_id", metavar="ID")
@click.argument("command")
@click.argument("payload", metavar="JSON", default="{}")
@click.option("--command-id", metavar="ID", help="The same id is the same command; else a new one.")
@click.option(
    "--wait",
    type=click.Choice(STAGES),
    default="accepted",
    help="Until its event is there: appended means that queries see it.",
)
@click.option(
    "--patience",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds to wait.",
)
@as_json
def send(
    name: str,
    aggregate_id: str,
    command: str,
    payload: str,
    command_id: str | None,
    wait: str,
    patience: float,
    json: bool,
) -> None:
    """Send one command to an aggregate and print its outcome.

    JSON is the command's payload, an object. Status 0 when it was accepted, now or before; 5 when
    its event has not come as far as --wait says in time; 3 when it was rejected; 4 when others
    changed the aggregate at each try; 1 when it is not known to be done: send it again with the
    same id.
    """
    from eventfleet.deciders.outcomes import OUTCOME_NAMES, outcome_fields
    from eventfleet.stores.contracts import Stage
    from eventfleet.stores.ids import Uuid7Generator

    identity, wanted = command_id or Uuid7Generator().new(), Stage(wait)
    sending = _send(name, aggregate_id, command, _parsed(payload), identity, wanted, patience)
    waited = asyncio.run(sending)
    kind, answer = OUTCOME_NAMES[type(waited.outcome)], outcome_fields(waited.outcome)
    if waited.stage:
        answer["stage"] = waited.stage.value
    if json:
        print_json({"outcome": kind, "command_id": identity, **answer})
    else:
        _print(kind, identity, answer)
    late = waited.stage not in (None, wanted)
    raise click.exceptions.Exit(NOT_THERE_YET if late else STATUS[kind])


def _parsed(payload: str) -> dict[str, Any]:
    from eventfleet.topics.codec import parse
    from eventfleet.topics.errors import InvalidRecord

    data = parse(payload.encode())
    if not isinstance(data, dict):
        raise InvalidRecord("data", "is not a JSON object")
    return data


async def _send(
    name: str,
    aggregate_id: str,
    command: str,
    data: dict[str, Any],
    command_id: str,
    wait: "Stage",
    patience: float,
) -> "WaitResult":
    from eventfleet.cli.http_client import http_client
    from eventfleet.runtime import connections
    from eventfleet.runtime.event_services import event_service
    from eventfleet.runtime.settings import load

    settings = load()
    if settings.service_url:
        async with http_client(settings, name) as asked:
            return await asked.send(
                aggregate_id, command, data, command_id=command_id, wait=wait, patience=patience
            )
    domain = connections.chosen(settings, [name])[name]
    async with event_service(settings, domain) as service:
        return await service.send(
            aggregate_id, command, data, command_id=command_id, wait=wait, patience=patience
        )


def _print(kind: str, command_id: str, answer: dict[str, Any]) -> None:
    match kind:
        case "accepted" | "repeated":
            stage = f", {answer['stage']}" if answer["stage"] != "accepted" else ""
            click.echo(f"{kind}: event {answer['event_id']} in {answer['place']}{stage}")
        case "rejected" | "conflict":
            click.echo(f"{kind}: {printable(answer['reason'])}")
        case _:
            click.echo(f"unavailable: {printable(answer['reason'])}", err=True)
            click.echo(f"to repeat it: --command-id {printable(command_id)}", err=True)
