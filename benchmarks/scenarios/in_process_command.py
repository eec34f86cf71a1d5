"""In-process command: the latency of EventService.send, at half of the rate that it can do."""

from uuid import uuid4

from benchmarks.contenders.command_data import audit, begin, settings_of
from benchmarks.contenders.in_process_command_data import ACCOUNTS, bank, first_deposits
from benchmarks.contenders.task import Task
from benchmarks.measure import run, value
from benchmarks.roles import DATABASE
from benchmarks.scenario import Goal, Line, Servers

PARTITIONS = 4
SECONDS = 6
EAGER_COMMANDS = 10_000
LOOP = "bare EVALSHA and send"

_rates: dict[Servers, float] = {}


async def prepare(servers: Servers, side: str, repeat: int) -> Task:
    """Accounts that have been deposited into; the rate is the same for both sides."""
    rate = _rates[servers] = _rates.get(servers) or await _half_of_peak(servers)
    return await _task(servers, rate, int(rate * SECONDS))


async def _half_of_peak(servers: Servers) -> float:
    task = await _task(servers, 0, EAGER_COMMANDS)
    return value(await run("the peak", LINE.sides[LINE.ours], task), "throughput") / 2


async def _task(servers: Servers, rate: float, records: int) -> Task:
    name = f"bank-{uuid4().hex[:8]}"
    task = Task(
        servers.kafka,
        servers.mongo_url,
        servers.redis_url,
        domain=name,
        topic="",
        group="",
        partitions=PARTITIONS,
        records=records,
        chunk=2_000,
        database=DATABASE,
        more={"rate": rate},
    )
    await begin(task, bank(name), first_deposits(name), [])
    return task


async def verify(servers: Servers, task: Task) -> None:
    """All that was accepted is stored: the first deposits, those to get warm, and the others."""
    stored = await audit(settings_of(task), bank(task.domain))
    expected = 2 * ACCOUNTS + task.records
    if stored != expected:
        raise RuntimeError(f"{stored} events are stored, it had to be {expected}")


LINE = Line(
    name="in-process command",
    unit="commands/s",
    prepare=prepare,
    sides={"eventfleet": "in_process_command_ours", LOOP: "in_process_command_loop"},
    goals=[Goal(LOOP, "p99", at_most=3)],
    verify=verify,
)
