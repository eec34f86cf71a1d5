"""A domain changes its mode and goes on with the events that it has."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from eventfleet.deciders.outcomes import Accepted, Outcome, Rejected, Repeated
from eventfleet.model.domain import Domain
from eventfleet.runtime.event_services import event_service
from tests.acceptance.command_fleet import CommandFleet

DECLARED = """
from msgspec.structs import replace

from eventfleet import START, Command, Domain, Emits, Event, Rejection, State


class Filled(Event):
    cents: int


class Spent(Event):
    cents: int


class Emptied(Event):
    pass


class Fill(Command):
    cents: int


class Spend(Command):
    cents: int


class Purse(State):
    cents: int = 0


def evolve(purse, event):
    match event:
        case Filled(cents=cents):
            return replace(purse, cents=purse.cents + cents)
        case Spent(cents=cents):
            return replace(purse, cents=purse.cents - cents)
    return purse


def decide(purse, command):
    match command:
        case Fill(cents=cents):
            return Filled(cents=cents)
        case Spend(cents=cents) if cents > purse.cents:
            return Rejection(f"only {purse.cents} are left")
        case Spend(cents=cents) if cents == purse.cents:
            return [Spent(cents=cents), Emptied()]
        case Spend(cents=cents):
            return Spent(cents=cents)


by_event = {
    "commands": [
        Emits(Fill, Filled, after=frozenset({START, Filled, Emptied})),
        Emits(Spend, Spent, after=frozenset({Filled})),
    ]
}
by_state = {"commands": [Fill, Spend], "decide": decide}
"""
DOMAIN = """
switched = Domain(
    "switched", state=Purse, evolve=evolve, events=[Filled, Spent, Emptied], **{mode}
)
"""


Send = Callable[..., Awaitable[Outcome]]


def declare(folder: Path, mode: str) -> Domain[Any]:
    """The domain, which the fleet finds in the folder."""
    text = DECLARED + DOMAIN.replace("{mode}", mode)
    (folder / "switched.py").write_text(text)
    names: dict[str, Any] = {"__name__": "switched"}
    exec(text, names)
    domain: Domain[Any] = names["switched"]
    return domain


def in_mode(fleet: CommandFleet, mode: str, work: Callable[[Send], Awaitable[None]]) -> None:
    """Append runs, and a service for the work; both are through and gone at the end."""
    domain = declare(fleet.folder, mode)

    async def serve() -> None:
        async with event_service(fleet.settings, domain) as service:

            def send(command: str, cents: int, command_id: str | None = None) -> Awaitable[Outcome]:
                return service.send("p", command, {"cents": cents}, command_id=command_id)

            await work(send)

    (append,) = fleet.start("append")
    asyncio.run(serve())
    fleet.settle("append")
    assert append.stop() == 0


async def first_by_event(send: Send) -> None:
    assert isinstance(await send("Fill", 5, "first"), Accepted)
    assert isinstance(await send("Spend", 2), Accepted)
    refused = Rejected("Spent may follow Filled, not Spent", "Spent")
    assert await send("Spend", 1) == refused


async def then_by_state(send: Send) -> None:
    assert await send("Spend", 4) == Rejected("only 3 are left")
    spent = await send("Spend", 3)
    assert isinstance(spent, Accepted)
    assert spent.version == 4
    repeated = await send("Fill", 5, "first")
    assert isinstance(repeated, Repeated)
    assert repeated.version == 1


async def at_last_by_event(send: Send) -> None:
    assert isinstance(await send("Fill", 5, "first"), Repeated)
    refused = Rejected("Spent may follow Filled, not Emptied", "Emptied")
    assert await send("Spend", 1) == refused
    assert isinstance(await send("Fill", 1), Accepted)


def test_a_domain_goes_from_mode_to_mode_and_each_judges_by_all_that_was(
    kafka: str, mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    declare(tmp_path, "by_event")
    with CommandFleet((kafka, mongo_url, redis_url), tmp_path, "switched") as fleet:
        in_mode(fleet, "by_event", first_by_event)
        in_mode(fleet, "by_state", then_by_state)
        fleet.redis.flushdb()
        in_mode(fleet, "by_event", at_last_by_event)
        events = fleet.run("events", "switched", "p", "--json").splitlines()
        assert [json.loads(event)["type"] for event in events] == [
            *("Filled", "Spent", "Spent", "Emptied", "Filled")
        ]
        report = fleet.json("audit", "switched")
        assert (report["violations"], report["dead_letters"], report["superseded"]) == ([], 0, 0)
