"""A bare handler of the same stack: commands decided on the state in memory. One read that brings
it up to date, one insert, one produce, and a snapshot in the background, each batched for
concurrent requests; only the bank domain is ours.
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

from benchmarks.contenders.batcher import Batcher
from benchmarks.contenders.command_loop import event_id
from benchmarks.contenders.http_data import serve_and_measure
from benchmarks.contenders.loop import HEADERS, Collection, open_collection
from benchmarks.contenders.task import ContenderTask, read_task, run, write_result
from eventfleet.domains.bank import Account, bank

MAX_READ_EVENTS = 500
SAVE_PAUSE_SECONDS = 0.1
KEPT_SNAPSHOTS = 3
SAVE_BATCH_STATES = 100
MAX_CALLS = 1
EVENTS: dict[str, Any] = {kind.__name__: kind for kind in bank.events}
DECODERS = {
    kind.__name__: msgspec.json.Decoder(kind) for kind in bank.commands if isinstance(kind, type)
}
encode = msgspec.json.Encoder().encode


class EventProducer:
    """Produces concurrent events in one batch."""

    def __init__(self, producer: Any, topic: str) -> None:
        self._producer, self._topic = producer, topic
        self.send = Batcher(self._produce, MAX_CALLS)

    async def _produce(self, records: list[Any]) -> list[Any]:
        batch = self._producer.create_batch()
        for key, value in records:
            batch.append(timestamp=None, key=key, value=value, headers=HEADERS)
        await (await self._producer.send_batch(batch, self._topic, partition=0))
        return records


class AccountService:
    """Decides commands on states in memory; changed states are saved in the background."""

    def __init__(self, task: ContenderTask, client: Any, event_producer: EventProducer) -> None:
        self._domain, self._event_producer = task.domain, event_producer
        self._events: Collection = open_collection(task, client, "events")
        self._snapshots: Collection = open_collection(task, client, "snapshots")
        self._states: dict[str, tuple[int, Account]] = {}
        self._changed: dict[str, tuple[int, Account]] = {}
        self._read_event, self._insert_event = (
            Batcher(self._read_batch, MAX_CALLS),
            Batcher(self._insert_batch, MAX_CALLS),
        )

    async def decide(self, account: str, name: str, key: str, body: bytes) -> tuple[int, Any]:
        command = DECODERS[name].decode(body)
        first_id = event_id(self._domain, account, key)
        while True:
            version, state = await self._load_state(account)
            for document in await self._read_event((first_id, account, version)):
                if document["_id"] == f"{account}\0{first_id}":
                    return 200, {"outcome": "repeated", "event_id": first_id}
                event = msgspec.convert(document["data"], EVENTS[document["type"]])
                version, state = document["version"], bank.evolve(state, event)
            decision = bank.decide_events(state, command)
            if not isinstance(decision, list):
                return 409, {"outcome": "rejected", "reason": decision.reason}
            (event,) = decision
            version, state = version + 1, bank.evolve(state, event)
            if not await self._store_and_send(account, key, first_id, version, event):
                continue
            self._states[account] = self._changed[account] = version, state
            return 200, {"outcome": "accepted", "event_id": first_id, "version": version}

    async def _load_state(self, account: str) -> tuple[int, Account]:
        if cached := self._states.get(account):
            return cached
        query = {"aggregate_id": account, "state_version": 1}
        found = await self._snapshots.find_one(query, sort=[("aggregate_id", -1), ("version", -1)])
        if found is None:
            return 0, Account()
        return found["version"], msgspec.convert(found["state"], Account)

    async def _store_and_send(
        self, account: str, key: str, first_id: str, version: int, event: Any
    ) -> bool:
        """Insert and produce an event; return False when the version is taken."""
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        data, kind = msgspec.to_builtins(event), type(event).__name__
        document = {
            **{
                "_id": f"{account}\0{first_id}",
                "aggregate_id": account,
                "version": version,
                "type": kind,
            },
            **{"time": now, "schema_version": 1, "data": data},
            **{"correlation_id": key, "causation_id": key, "partition": 0, "unplaced": 0},
        }
        if not await self._insert_event(document):
            return False
        envelope = {
            **{"specversion": "1.0", "id": first_id, "type": kind, "source": self._domain},
            **{"subject": account, "time": now, "data": data, "version": version},
            **{"correlationid": key, "causationid": key},
        }
        await self._event_producer.send((account.encode(), encode(envelope)))
        return True

    async def _read_batch(self, reads: list[Any]) -> list[Any]:
        """Return, for each event id, account, version: that event and those after the version."""
        ids = [f"{account}\0{first_id}" for first_id, account, _ in reads]
        query: list[Any] = [{"_id": {"$in": ids}}]
        query += [{"aggregate_id": a, "version": {"$gt": version}} for _, a, version in reads]
        found = self._events.find({"$or": query}).sort([("aggregate_id", 1), ("version", 1)])
        documents = await found.limit(MAX_READ_EVENTS + len(reads) + 1).to_list(None)
        by_account: dict[str, list[Any]] = {}
        for document in documents:
            by_account.setdefault(document["aggregate_id"], []).append(document)
        return [
            [d for d in by_account.get(a, ()) if d["version"] > version or d["_id"] == key]
            for key, (_, a, version) in zip(ids, reads, strict=True)
        ]

    async def _insert_batch(self, documents: list[Any]) -> list[Any]:
        """Insert documents and return, for each, False when its version was taken."""
        taken: set[int] = set()
        try:
            await self._events.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if any(each["code"] != 11000 for each in error.details["writeErrors"]):
                raise
            taken = {each["index"] for each in error.details["writeErrors"]}
        return [index not in taken for index in range(len(documents))]

    async def save_forever(self) -> None:
        """Save changed states in bulk, keeping KEPT_SNAPSHOTS of each account."""
        while True:
            await asyncio.sleep(SAVE_PAUSE_SECONDS)
            while self._changed:
                ids = list(self._changed)[:SAVE_BATCH_STATES]
                await self._save_batch({account: self._changed.pop(account) for account in ids})

    async def _save_batch(self, states: dict[str, tuple[int, Account]]) -> None:
        now = datetime.now(UTC)
        documents = [
            {
                **{"_id": f"{account}/1/{version}", "aggregate_id": account, "version": version},
                **{"state": msgspec.to_builtins(state), "state_version": 1, "taken_at": now},
            }
            for account, (version, state) in states.items()
        ]
        try:
            await self._snapshots.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if any(each["code"] != 11000 for each in error.details["writeErrors"]):
                raise
        kept: dict[str, list[int]] = {}
        keys = {"_id": 0, "aggregate_id": 1, "version": 1, "state_version": 1}
        async for each in self._snapshots.find({"aggregate_id": {"$in": list(states)}}, keys):
            kept.setdefault(each["aggregate_id"], []).append(each["version"])
        excess = [
            DeleteOne({"_id": f"{account}/1/{version}"})
            for account, versions in kept.items()
            for version in sorted(versions)[:-KEPT_SNAPSHOTS]
        ]
        if excess:
            await self._snapshots.bulk_write(excess, ordered=False)


def make_handler(service: AccountService) -> Any:
    async def handle(request: Request) -> Response:
        parts, key = request.path_params, request.headers["idempotency-key"]
        try:
            body = await request.body()
            status, reply = await service.decide(parts["id"], parts["command"], key, body)
        except msgspec.DecodeError as error:
            return Response(str(error), 422)
        return Response(encode(reply), status, media_type="application/json")

    return handle


async def main(task: ContenderTask) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=task.kafka, acks="all", max_batch_size=950_000)
    await producer.start()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(task.mongo_url)
    service = AccountService(task, client, EventProducer(producer, f"{task.domain}.events"))
    path = f"/domains/{task.domain}/{{id}}/commands/{{command}}"
    app = Starlette(routes=[Route(path, make_handler(service), methods=["POST"])])
    saver = asyncio.create_task(service.save_forever())
    result = await serve_and_measure(task, app, {})
    saver.cancel()
    await producer.stop()
    await client.close()
    write_result(result)


if __name__ == "__main__":
    run(main(read_task()))
