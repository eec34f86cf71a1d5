"""Scenario documents: edits of cached documents beside the driver's own `find_one_and_update`."""

from uuid import uuid4

from pymongo import AsyncMongoClient

from benchmarks.contenders.document_data import DOCUMENTS, User
from benchmarks.contenders.task import ContenderTask
from benchmarks.role_setup import DATABASE
from benchmarks.scenario import Goal, Scenario, ServerAddresses, is_short
from eventfleet.documents import open_storage
from eventfleet.stores.errors import Misconfigured

EDITS = 48_000
SHORT_EDITS = 8_000
CONTENDERS = {"eventfleet": "documents_ours", "find_one_and_update": "documents_loop"}


async def prepare(servers: ServerAddresses, contender: str, repeat: int) -> ContenderTask:
    """Return a task over a collection of its own, with its documents in it."""
    name = f"users-{uuid4().hex[:8]}"
    async with open_storage(servers.mongo_url, DATABASE, name, User) as users:
        for number in range(DOCUMENTS):
            await users.find_one_and_upsert(User(f"u{number}"), "bench")
    return ContenderTask(
        *servers,
        domain=name,
        partitions=1,
        records=SHORT_EDITS if is_short() else EDITS,
        chunk=1,
        database=DATABASE,
    )


async def verify(servers: ServerAddresses, task: ContenderTask) -> None:
    """Raise unless each edit is one event, and the documents hold them all."""
    async with AsyncMongoClient(servers.mongo_url) as client:
        database = client[task.database]
        events = await database[f"{task.domain}.events"].count_documents({})
        visits = sum([user["visits"] async for user in database[task.domain].find()])
    expected = task.records + DOCUMENTS
    if (events, visits) != (expected + DOCUMENTS, expected):
        raise Misconfigured(f"{events} events and {visits} visits of {expected}")


SCENARIO = Scenario(
    name="documents",
    unit="edits/s",
    prepare=prepare,
    contenders=CONTENDERS,
    goals=[
        Goal("find_one_and_update", at_least=0.5),
        Goal("find_one_and_update", "cpu"),
    ],
    verify=verify,
)
