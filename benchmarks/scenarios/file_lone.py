"""Scenario file lone: commands in the one process that has a fleet's file and runs its roles.

A lone caller, synchronous and asynchronous, and then many synchronous ones at once, whose
throughput this is.
"""

from uuid import uuid4

from benchmarks import file_setup
from benchmarks.contenders.file_lone_data import CALLERS, WARM_ACCOUNTS, count_lone
from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import Goal, Scenario, ServerAddresses, is_short
from benchmarks.scenarios.lone_synchronous import (
    Account,
    Deposited,
    PutIn,
    declare_accounts,
    evolve,
)
from eventfleet.model.command_rules import Emits
from eventfleet.model.domain import Domain

COMMANDS = 5_000 if is_short() else 20_000
LONE_COMMANDS = 1_000
PEER = "pyeventsourcing"


def declare_receipts(name: str) -> Domain[Account]:
    """Declare the accounts as an asynchronous domain, which is beside the synchronous one."""
    events, commands = [Deposited], [Emits(PutIn, Deposited, after=None)]
    return Domain(
        f"{name}-receipts", state=Account, evolve=evolve, events=events, commands=commands
    )


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    return ContenderTask(
        *servers,
        domain=f"accounts-{uuid4().hex[:8]}",
        partitions=4,
        records=COMMANDS,
        chunk=2_000,
        database=file_setup.new_folder(),
        extra={"lone": LONE_COMMANDS},
    )


async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
    """Raise VerificationFailed unless all accepted commands are stored and the audit is clean."""
    lone = 2 * WARM_ACCOUNTS + count_lone(task)
    accounts, receipts = declare_accounts(task.domain), declare_receipts(task.domain)
    expected = [(accounts, lone + CALLERS + task.records), (receipts, lone)]
    await file_setup.settle_and_verify(file_setup.make_settings(task), expected)


SCENARIO = Scenario(
    name="file lone",
    unit="commands/s",
    prepare=prepare,
    contenders={"eventfleet": "file_lone_ours", PEER: "file_lone_pyeventsourcing"},
    goals=[
        Goal(PEER, at_least=2.0),
        Goal(PEER, "p50", at_most=1.5),
        Goal("", "asynchronous_ratio", at_most=1.3),
    ],
    verify=verify,
    needs_servers=False,
)
