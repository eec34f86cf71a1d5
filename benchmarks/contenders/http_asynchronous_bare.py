"""A bare handler of the same stack: commands over markers, decided by the hand-written loop.

Requests that wait while a batch is decided go with the next. Only the orders
domain is ours.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from pymongo import AsyncMongoClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.contenders.batcher import Batcher
from benchmarks.contenders.command_loop import (
    CommandDecider,
    CommandRecord,
    LoopCommand,
    encode,
)
from benchmarks.contenders.command_scripts import RedisPool
from benchmarks.contenders.http_data import serve_and_measure
from benchmarks.contenders.loop import open_collection
from benchmarks.contenders.task import ContenderTask, read_task, run, write_result

MAX_CALLS = 4
STATUSES = {"accepted": 202, "repeated": 200, "rejected": 409}


def make_handler(task: ContenderTask, settle: Batcher) -> Any:
    async def handle(request: Request) -> Response:
        subject, name = request.path_params["id"], request.path_params["command"]
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        body = msgspec.Raw(await request.body())
        key = request.headers["idempotency-key"]
        try:
            envelope = CommandRecord("1.0", key, name, task.domain, subject, now, body)
            command = LoopCommand(subject.encode(), envelope, task.domain)
        except msgspec.DecodeError as error:
            return Response(str(error), 422)
        await settle(command)
        assert command.reply
        status = STATUSES[command.reply["outcome"]]
        return Response(encode(command.reply), status, media_type="application/json")

    return handle


async def main(task: ContenderTask) -> None:
    redis = await RedisPool.open(task.redis_url, MAX_CALLS)
    producer = AIOKafkaProducer(bootstrap_servers=task.kafka, acks="all", max_batch_size=950_000)
    await producer.start()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(task.mongo_url)
    decider = CommandDecider(task, open_collection(task, client, "events"), redis, producer)

    async def settle_all(commands: list[LoopCommand]) -> list[LoopCommand]:
        await decider.settle(0, commands)
        return commands

    path = f"/domains/{task.domain}/{{id}}/commands/{{command}}"
    app = Starlette(
        routes=[Route(path, make_handler(task, Batcher(settle_all, MAX_CALLS)), methods=["POST"])]
    )
    async with decider.guard:
        result = await serve_and_measure(task, app, {})
    await producer.stop()
    redis.close()
    await client.close()
    write_result(result)


if __name__ == "__main__":
    run(main(read_task()))
