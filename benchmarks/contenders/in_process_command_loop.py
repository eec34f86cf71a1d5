"""A bare loop: one EVALSHA that checks and sets the latest type, then one send; nothing is looked
up, kept for a crash, or confirmed. Checks that wait for a pipeline go with the next."""

import asyncio
from typing import Any
from uuid import uuid4

import msgspec
from aiokafka import AIOKafkaProducer

from benchmarks.contenders.command_scripts import CHECK_SCRIPT, RedisPool
from benchmarks.contenders.in_process_command_data import measure_sends
from benchmarks.contenders.task import EVENT_LOOP, ContenderTask, read_task, run, write_result

CONNECTIONS = 4
SETTINGS = {"acks": "all", "marker": "one EVALSHA in pipelines", "event loop": EVENT_LOOP}
encode = msgspec.json.Encoder().encode


class TypeChecker:
    """Checks the latest types of accounts, all waiting ones in one pipeline."""

    def __init__(self, redis: RedisPool, domain: str) -> None:
        self._redis, self._domain = redis, domain
        self._waiting: list[tuple[str, asyncio.Future[Any]]] = []
        self._open_calls = 0

    async def check(self, account: str) -> Any:
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((account, result))
        if self._open_calls < CONNECTIONS:
            self._open_calls += 1
            self._call = asyncio.create_task(self._run_calls())
        return await result

    async def _run_calls(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            calls = [(f"latest:{self._domain}:{account}", "Deposited") for account, _ in batch]
            replies = await self._redis.run(CHECK_SCRIPT, calls)
            for (_, result), reply in zip(batch, replies, strict=True):
                result.set_result(reply)
        self._open_calls -= 1


async def main(task: ContenderTask) -> None:
    redis = await RedisPool.open(task.redis_url, CONNECTIONS)
    checker, topic = TypeChecker(redis, task.domain), f"{task.domain}.events"
    producer = AIOKafkaProducer(bootstrap_servers=task.kafka, acks="all", max_batch_size=950_000)
    await producer.start()

    async def send(account: str, data: dict[str, Any]) -> None:
        if not await checker.check(account):
            raise RuntimeError(f"deposit into {account} is forbidden")
        event = {"id": str(uuid4()), "type": "Deposited", "subject": account, "data": data}
        await producer.send_and_wait(topic, encode(event), key=account.encode())

    result = await measure_sends(task, send, SETTINGS)
    await producer.stop()
    redis.close()
    write_result(result)


if __name__ == "__main__":
    run(main(read_task()))
