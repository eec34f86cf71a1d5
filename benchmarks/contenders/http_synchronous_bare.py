"""A bare handler of the same stack: commands decided on the state in memory. One read that brings
it up to date, one insert, one produce, and a snapshot behind the answer, each shared by those that
wait for one at the same time; nothing is ours but the bank.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from pymongo import AsyncMongoClient, DeleteOne
from pymongo.errors import BulkWriteError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.contenders.command_loop import event_id
from benchmarks.contenders.http_data import measured
from benchmarks.contenders.loop import HEADERS, Collection, collection
from benchmarks.contenders.shared import Shared
from benchmarks.contenders.task import Task, run, task, told
from eventfleet.domains.bank import Account, bank

AT_ONCE, PAUSE, KEPT, BATCH, TRIPS = 500, 0.1, 3, 100, 1
EVENTS: dict[str, Any] = {kind.__name__: kind for kind in bank.events}
DECODERS = {
    kind.__name__: msgspec.json.Decoder(kind) for kind in bank.commands if isinstance(kind, type)
}
encode = msgspec.json.Encoder().encode


class Stream:
    """Produces together what waits."""

    def __init__(self, producer: Any, topic: str) -> None:
        self._producer, self._topic = producer, topic
        self.send = Shared(self._produce, TRIPS)

    async def _produce(self, rows: list[Any]) -> list[Any]:
        batch = self._producer.create_batch()
        for key, value in rows:
            batch.append(timestamp=None, key=key, value=value, headers=HEADERS)
        await (await self._producer.send_batch(batch, self._topic, partition=0))
        return rows


class Bank:
    """States in memory, as of a version; those that changed are saved a little later."""

    def __init__(self, task: Task, client: Any, stream: Stream) -> None:
        self._domain, self._stream = task.domain, stream
        self._events: Collection = collection(task, client, "events")
        self._snapshots: Collection = collection(task, client, "snapshots")
        self._states: dict[str, tuple[int, Account]] = {}
        self._changed: dict[str, tuple[int, Account]] = {}
        self._since, self._insert = Shared(self._read, TRIPS), Shared(self._write, TRIPS)

    async def decide(self, account: str, name: str, key: str, body: bytes) -> tuple[int, Any]:
        command = DECODERS[name].decode(body)
        first = event_id(self._domain, account, key)
        while True:
            version, state = await self._latest(account)
            for document in await self._since((first, account, version)):
                if document["_id"] == first:
                    return 200, {"outcome": "repeated", "event_id": first}
                event = msgspec.convert(document["data"], EVENTS[document["type"]])
                version, state = document["version"], bank.evolve(state, event)
            made = bank.decided(state, command)
            if not isinstance(made, list):
                return 409, {"outcome": "rejected", "reason": made.reason}
            (event,) = made
            version, state = version + 1, bank.evolve(state, event)
            if not await self._put(account, key, first, version, event):
                continue
            self._states[account] = self._changed[account] = version, state
            return 200, {"outcome": "accepted", "event_id": first, "version": version}

    async def _latest(self, account: str) -> tuple[int, Account]:
        if known := self._states.get(account):
            return known
        wanted = {"aggregate_id": account, "state_version": 1}
        found = await self._snapshots.find_one(wanted, sort=[("aggregate_id", -1), ("version", -1)])
        if found is None:
            return 0, Account()
        return found["version"], msgspec.convert(found["state"], Account)

    async def _put(self, account: str, key: str, first: str, version: int, event: Any) -> bool:
        """False where the version is taken."""
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        data, kind = msgspec.to_builtins(event), type(event).__name__
        document = {
            **{"_id": first, "aggregate_id": account, "version": version, "type": kind},
            **{"time": now, "schema_version": 1, "data": data},
            **{"correlation_id": key, "causation_id": key, "partition": 0, "unplaced": 0},
        }
        if not await self._insert(document):
            return False
        wire = {
            **{"specversion": "1.0", "id": first, "type": kind, "source": self._domain},
            **{"subject": account, "time": now, "data": data, "version": version},
            **{"correlationid": key, "causationid": key},
        }
        await self._stream.send((account.encode(), encode(wire)))
        return True

    async def _read(self, looks: list[Any]) -> list[Any]:
        """For each first event's id, account and version: that event, or those after it."""
        wanted: list[Any] = [{"_id": {"$in": [first for first, _, _ in looks]}}]
        wanted += [{"aggregate_id": a, "version": {"$gt": version}} for _, a, version in looks]
        found = self._events.find({"$or": wanted}).sort([("aggregate_id", 1), ("version", 1)])
        documents = await found.limit(AT_ONCE + len(looks) + 1).to_list(None)
        by_account: dict[str, list[Any]] = {}
        for document in documents:
            by_account.setdefault(document["aggregate_id"], []).append(document)
        return [
            [d for d in by_account.get(a, ()) if d["version"] > version or d["_id"] == first]
            for first, a, version in looks
        ]

    async def _write(self, documents: list[Any]) -> list[Any]:
        """Whether each is in."""
        taken: set[int] = set()
        try:
            await self._events.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if any(each["code"] != 11000 for each in error.details["writeErrors"]):
                raise
            taken = {each["index"] for each in error.details["writeErrors"]}
        return [index not in taken for index in range(len(documents))]

    async def save(self) -> None:
        """What has changed, in bulks, and no more than KEPT of each."""
        while True:
            await asyncio.sleep(PAUSE)
            while self._changed:
                ids = list(self._changed)[:BATCH]
                await self._saved({account: self._changed.pop(account) for account in ids})

    async def _saved(self, some: dict[str, tuple[int, Account]]) -> None:
        now = datetime.now(UTC)
        documents = [
            {
                **{"_id": f"{account}/1/{version}", "aggregate_id": account, "version": version},
                **{"state": msgspec.to_builtins(state), "state_version": 1, "taken_at": now},
            }
            for account, (version, state) in some.items()
        ]
        try:
            await self._snapshots.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if any(each["code"] != 11000 for each in error.details["writeErrors"]):
                raise
        kept: dict[str, list[int]] = {}
        keys = {"_id": 0, "aggregate_id": 1, "version": 1, "state_version": 1}
        async for each in self._snapshots.find({"aggregate_id": {"$in": list(some)}}, keys):
            kept.setdefault(each["aggregate_id"], []).append(each["version"])
        excess = [
            DeleteOne({"_id": f"{account}/1/{version}"})
            for account, versions in kept.items()
            for version in sorted(versions)[:-KEPT]
        ]
        if excess:
            await self._snapshots.bulk_write(excess, ordered=False)


def handler(accounts: Bank) -> Any:
    async def handle(request: Request) -> Response:
        parts, key = request.path_params, request.headers["idempotency-key"]
        try:
            body = await request.body()
            status, answer = await accounts.decide(parts["id"], parts["command"], key, body)
        except msgspec.DecodeError as error:
            return Response(str(error), 422)
        return Response(encode(answer), status, media_type="application/json")

    return handle


async def main(task: Task) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=task.kafka, acks="all", max_batch_size=950_000)
    await producer.start()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(task.mongo_url)
    accounts = Bank(task, client, Stream(producer, f"{task.domain}.events"))
    path = f"/domains/{task.domain}/{{id}}/commands/{{command}}"
    app = Starlette(routes=[Route(path, handler(accounts), methods=["POST"])])
    saving = asyncio.create_task(accounts.save())
    result = await measured(task, app, {})
    saving.cancel()
    await producer.stop()
    await client.close()
    told(result)


if __name__ == "__main__":
    run(main(task()))
