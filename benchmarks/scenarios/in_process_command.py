"""Scenario in-process command: the latency of EventService.send, at half of its peak rate."""

from uuid import uuid4

from benchmarks.contenders.command_data import append_and_audit, make_settings, set_up_domain
from benchmarks.contenders.in_process_command_data import (
    ACCOUNTS,
    declare_bank,
    make_first_deposits,
)
from benchmarks.contenders.task import ContenderTask
from benchmarks.results import measure_value
from benchmarks.role_setup import DATABASE
from benchmarks.runner import run_contender
from benchmarks.scenario import Goal, Scenario, ServerAddresses

PARTITIONS = 4
RUN_SECONDS = 6
EAGER_COMMANDS = 10_000
BARE = "bare EVALSHA and send"

_rates_by_servers: dict[ServerAddresses, float] = {}


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    """Create accounts with a first deposit; the rate is the same for both contenders."""
    rate = _rates_by_servers[servers] = _rates_by_servers.get(
        servers
    ) or await _find_half_peak_rate(servers)
    return await _make_task(servers, rate, int(rate * RUN_SECONDS))


async def _find_half_peak_rate(servers: ServerAddresses) -> float:
    task = await _make_task(servers, 0, EAGER_COMMANDS)
    return (
        measure_value(
            await run_contender("the peak", SCENARIO.contenders[SCENARIO.ours], task), "throughput"
        )
        / 2
    )


async def _make_task(servers: ServerAddresses, rate: float, records: int) -> ContenderTask:
    name = f"bank-{uuid4().hex[:8]}"
    task = ContenderTask(
        *servers,
        domain=name,
        partitions=PARTITIONS,
        records=records,
        chunk=2_000,
        database=DATABASE,
        extra={"rate": rate},
    )
    await set_up_domain(task, declare_bank(name), make_first_deposits(name), [])
    return task


async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
    """Raise RuntimeError unless all deposits are stored: first, warm-up and measured ones."""
    stored = await append_and_audit(make_settings(task), declare_bank(task.domain))
    expected = 2 * ACCOUNTS + task.records
    if stored != expected:
        raise RuntimeError(f"{stored} events are stored, expected {expected}")


SCENARIO = Scenario(
    name="in-process command",
    unit="commands/s",
    prepare=prepare,
    contenders={"eventfleet": "in_process_command_ours", BARE: "in_process_command_loop"},
    goals=[Goal(BARE, "p99", at_most=3)],
    verify=verify,
)
