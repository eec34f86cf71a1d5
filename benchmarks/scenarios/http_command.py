"""HTTP command, of an asynchronous and of a synchronous domain: requests that are answered."""

from uuid import uuid4

from benchmarks.contenders.command_data import audit, begin, settings_of
from benchmarks.contenders.http_data import ACCOUNTS, domain_of
from benchmarks.contenders.task import Task
from benchmarks.scenario import Goal, Line, Prepare, Servers, Verify, short

REQUESTS = 4_000 if short() else 10_000
BARE = "bare handler"


def _prepare(synchronous: bool) -> Prepare:
    async def prepare(servers: Servers, side: str, repeat: int) -> Task:
        name = f"web-{uuid4().hex[:8]}"
        task = Task(
            servers.kafka,
            servers.mongo_url,
            servers.redis_url,
            domain=name,
            topic="",
            group="",
            partitions=1,
            records=REQUESTS,
            chunk=2_000,
            database=name,
            more={"synchronous": synchronous},
        )
        await begin(task, domain_of(task), [], [])
        return task

    return prepare


def _verify(synchronous: bool) -> Verify:
    async def verify(servers: Servers, task: Task) -> None:
        """All that was accepted is stored, and append makes of it what it must."""
        stored = await audit(settings_of(task), domain_of(task))
        expected = task.records + (ACCOUNTS if synchronous else task.records)
        if stored != expected:
            raise RuntimeError(f"{stored} events are stored, it had to be {expected}")

    return verify


def _line(name: str, bare: str, synchronous: bool) -> Line:
    return Line(
        name=name,
        unit="requests/s",
        prepare=_prepare(synchronous),
        sides={"eventfleet": "http_command_ours", BARE: bare},
        goals=[Goal(BARE, at_least=0.7), Goal("", "p50"), Goal("", "p99")],
        verify=_verify(synchronous),
    )


ASYNCHRONOUS = _line("http asynchronous", "http_asynchronous_bare", synchronous=False)
SYNCHRONOUS = _line("http synchronous", "http_synchronous_bare", synchronous=True)
