"""Scenario lone command: a lone caller of an asynchronous domain that began a minute ago.

No append runs meanwhile: no answer may wait for it.
"""

from uuid import uuid4

from benchmarks.contenders.command_data import (
    append_and_audit,
    declare_shop,
    make_settings,
    set_up_domain,
)
from benchmarks.contenders.lone_command_data import WARM_UP_ORDERS
from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import Goal, Scenario, ServerAddresses, is_short

COMMANDS = 1_000 if is_short() else 2_000
REDIS_AGE_SECONDS = 60.0
HAND_WRITTEN = "hand-written loop"


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    name = f"lone-{uuid4().hex[:8]}"
    task = ContenderTask(
        *servers,
        domain=name,
        partitions=1,
        records=COMMANDS,
        chunk=2_000,
        database=name,
    )
    await set_up_domain(task, declare_shop(name), [], [], REDIS_AGE_SECONDS)
    return task


async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
    """Raise RuntimeError unless all accepted commands are stored and the audit is clean."""
    stored = await append_and_audit(make_settings(task), declare_shop(task.domain))
    expected = task.records + 2 * WARM_UP_ORDERS
    if stored != expected:
        raise RuntimeError(f"{stored} events are stored, expected {expected}")


SCENARIO = Scenario(
    name="lone command",
    unit="commands/s",
    prepare=prepare,
    contenders={"eventfleet": "lone_command_ours", HAND_WRITTEN: "lone_command_loop"},
    goals=[
        Goal(HAND_WRITTEN, "first_p50", at_most=1.5),
        Goal(HAND_WRITTEN, "later_p50", at_most=1.5),
    ],
    verify=verify,
)
