"""Scenarios http asynchronous, http synchronous and http lone: requests to command endpoints."""

from collections.abc import Sequence
from uuid import uuid4

from benchmarks.contenders.command_data import append_and_audit, make_settings, set_up_domain
from benchmarks.contenders.http_data import ACCOUNTS, declare_domain
from benchmarks.contenders.task import ContenderTask
from benchmarks.scenario import Goal, Prepare, Scenario, ServerAddresses, Verify, is_short

REQUESTS = 4_000 if is_short() else 10_000
LONE_REQUESTS = 1_000 if is_short() else 2_000
BARE = "bare handler"


def _make_prepare(synchronous: bool, lone: bool) -> Prepare:
    async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
        name = f"web-{uuid4().hex[:8]}"
        task = ContenderTask(
            *servers,
            domain=name,
            partitions=1,
            records=LONE_REQUESTS if lone else REQUESTS,
            chunk=2_000,
            database=name,
            extra={"synchronous": synchronous, **({"connections": 1} if lone else {})},
        )
        await set_up_domain(task, declare_domain(task), [], [])
        return task

    return prepare


def _make_verify(synchronous: bool) -> Verify:
    async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
        """Raise RuntimeError unless all accepted commands are stored and the audit is clean."""
        stored = await append_and_audit(make_settings(task), declare_domain(task))
        expected = task.records + (ACCOUNTS if synchronous else task.records)
        if stored != expected:
            raise RuntimeError(f"{stored} events are stored, expected {expected}")

    return verify


def _make_scenario(
    name: str, bare: str, goals: Sequence[Goal], *, synchronous: bool = False, lone: bool = False
) -> Scenario:
    return Scenario(
        name=name,
        unit="requests/s",
        prepare=_make_prepare(synchronous, lone),
        contenders={"eventfleet": "http_command_ours", BARE: bare},
        goals=goals,
        verify=_make_verify(synchronous),
    )


_MANY = [Goal(BARE, at_least=0.7), Goal("", "p50"), Goal("", "p99")]
ASYNCHRONOUS = _make_scenario("http asynchronous", "http_asynchronous_bare", _MANY)
SYNCHRONOUS = _make_scenario("http synchronous", "http_synchronous_bare", _MANY, synchronous=True)
LONE = _make_scenario(
    "http lone", "http_lone_bare", [Goal(BARE, "cpu", at_most=2), Goal(BARE, "p50")], lone=True
)
