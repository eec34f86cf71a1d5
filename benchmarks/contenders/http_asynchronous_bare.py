"""A bare handler of the same stack: commands over markers, decided by the hand-written command.

What waits while a flight is on its way goes with the next. Nothing is ours but the shop.
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

from benchmarks.contenders.command_loop import Command, Shop, Wire, encode
from benchmarks.contenders.command_scripts import Pipes
from benchmarks.contenders.http_data import measured
from benchmarks.contenders.loop import collection
from benchmarks.contenders.shared import Shared
from benchmarks.contenders.task import Task, run, task, told

FLIGHTS = 4
STATUSES = {"accepted": 202, "repeated": 200, "rejected": 409}


def handler(task: Task, settle: Shared) -> Any:
    async def handle(request: Request) -> Response:
        subject, name = request.path_params["id"], request.path_params["command"]
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        body = msgspec.Raw(await request.body())
        key = request.headers["idempotency-key"]
        try:
            wire = Wire("1.0", key, name, task.domain, subject, now, body)
            command = Command(subject.encode(), wire, task.domain)
        except msgspec.DecodeError as error:
            return Response(str(error), 422)
        await settle(command)
        assert command.answer
        status = STATUSES[command.answer["outcome"]]
        return Response(encode(command.answer), status, media_type="application/json")

    return handle


async def main(task: Task) -> None:
    pipes = await Pipes.opened(task.redis_url, FLIGHTS)
    producer = AIOKafkaProducer(bootstrap_servers=task.kafka, acks="all", max_batch_size=950_000)
    await producer.start()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(task.mongo_url)
    shop = Shop(task, collection(task, client, "events"), pipes, producer)

    async def settled(commands: list[Command]) -> list[Command]:
        await shop.settle(0, commands)
        return commands

    path = f"/domains/{task.domain}/{{id}}/commands/{{command}}"
    app = Starlette(routes=[Route(path, handler(task, Shared(settled, FLIGHTS)), methods=["POST"])])
    async with shop.guard:
        result = await measured(task, app, {})
    await producer.stop()
    pipes.close()
    await client.close()
    told(result)


if __name__ == "__main__":
    run(main(task()))
