"""Scenario lone synchronous: a lone caller whose commands are decided on the latest state."""

from uuid import uuid4

from benchmarks.contenders.command_data import append_and_audit, make_settings, set_up_domain
from benchmarks.contenders.lone_synchronous_data import COLD_EVENTS, WARM_ACCOUNTS, count_cold
from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import Goal, Scenario, ServerAddresses, is_short
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Event, State

COMMANDS = 500 if is_short() else 1_000
PEER = "pyeventsourcing"


class Deposited(Event):
    cents: int


class Account(State):
    cents: int = 0


class PutIn(Command):
    cents: int


def evolve(account: Account, event: Event) -> Account:
    return Account(account.cents + event.cents) if isinstance(event, Deposited) else account


def decide(account: Account, command: Command) -> Event:
    assert isinstance(command, PutIn)
    return Deposited(command.cents)


def declare_accounts(name: str) -> Domain[Account]:
    events, commands = [Deposited], [PutIn]
    return Domain(
        name, state=Account, evolve=evolve, events=events, commands=commands, decide=decide
    )


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    name = f"accounts-{uuid4().hex[:8]}"
    task = ContenderTask(
        *servers,
        domain=name,
        partitions=1,
        records=COMMANDS,
        chunk=2_000,
        database=name,
    )
    await set_up_domain(task, declare_accounts(name), [], [])
    return task


async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
    """Raise RuntimeError unless all accepted commands are stored and the audit is clean."""
    stored = await append_and_audit(make_settings(task), declare_accounts(task.domain))
    expected = task.records + 2 * WARM_ACCOUNTS + 1 + (COLD_EVENTS + 1) * count_cold(task)
    if stored != expected:
        raise RuntimeError(f"{stored} events are stored, expected {expected}")


SCENARIO = Scenario(
    name="lone synchronous",
    unit="commands/s",
    prepare=prepare,
    contenders={
        "eventfleet": "lone_synchronous_ours",
        PEER: "lone_synchronous_pyeventsourcing",
    },
    goals=[Goal(PEER, "warm_p50", at_most=1.0), Goal(PEER, "cold_p50", at_most=1.0)],
    verify=verify,
)
