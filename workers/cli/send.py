"""`eventfleet send`: one command, and what became of it."""

import asyncio
from typing import TYPE_CHECKING, Any

import click

from workers.cli.output import as_json, print_json, printable

if TYPE_CHECKING:
    from protocols.outcomes import Outcome

STATUS = {"accepted": 0, "repeated": 0, "rejected": 3, "conflict": 4, "unavailable": 1}


@click.command()
@click.argument("name", metavar="DOMAIN")
@click.argument("aggregate_id", metavar="ID")
@click.argument("command")
@click.argument("payload", metavar="JSON", default="{}")
@click.option("--command-id", metavar="ID", help="The same id is the same command; else a new one.")
@as_json
def send(
    name: str, aggregate_id: str, command: str, payload: str, command_id: str | None, json: bool
) -> None:
    """Send one command to an aggregate and print its outcome.

    JSON is the command's payload, an object. Status 0 when it was accepted, now or before; 3 when
    it was rejected; 4 when others changed the aggregate at each try; 1 when it is not known to be
    done: send it again with the same id.
    """
    from protocols.outcomes import NAMES, told
    from stores.system import Uuid7Ids

    identity = command_id or Uuid7Ids().new()
    outcome = asyncio.run(_send(name, aggregate_id, command, _parsed(payload), identity))
    kind = NAMES[type(outcome)]
    answer = told(outcome)
    if json:
        print_json({"outcome": kind, "command_id": identity, **answer})
    else:
        _print(kind, identity, answer)
    raise click.exceptions.Exit(STATUS[kind])


def _parsed(payload: str) -> dict[str, Any]:
    from topics.codec import parse
    from topics.errors import Unreadable

    data = parse(payload.encode())
    if not isinstance(data, dict):
        raise Unreadable("data", "is not a JSON object")
    return data


async def _send(
    name: str, aggregate_id: str, command: str, data: dict[str, Any], command_id: str
) -> "Outcome":
    from workers import connect
    from workers.deciders import event_service
    from workers.settings import load

    settings = load()
    domain = connect.chosen(settings, [name])[name]
    async with event_service(settings, domain) as service:
        return await service.send(aggregate_id, command, data, command_id=command_id)


def _print(kind: str, command_id: str, answer: dict[str, Any]) -> None:
    match kind:
        case "accepted" | "repeated":
            click.echo(f"{kind}: event {answer['event_id']} in {answer['place']}")
        case "rejected" | "conflict":
            click.echo(f"{kind}: {printable(answer['reason'])}")
        case _:
            click.echo(f"unavailable: {printable(answer['reason'])}", err=True)
            click.echo(f"to repeat it: --command-id {printable(command_id)}", err=True)
