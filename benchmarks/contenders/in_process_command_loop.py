"""A bare loop: one EVALSHA that checks and sets the latest type, then one send; nothing is looked
up, kept for a crash, or cleared. What waits while a pipeline is out goes with the next."""

import asyncio
from typing import Any
from uuid import uuid4

import msgspec
from aiokafka import AIOKafkaProducer

from benchmarks.contenders.command_scripts import CHECK, Pipes
from benchmarks.contenders.in_process_command_data import measured
from benchmarks.contenders.task import LOOP, Task, run, task, told

CONNECTIONS = 4
SETTINGS = {"acks": "all", "marker": "one EVALSHA in pipelines", "event loop": LOOP}
encode = msgspec.json.Encoder().encode


class Checks:
    """Checks the latest type of accounts, as many at once as wait."""

    def __init__(self, pipes: Pipes, domain: str) -> None:
        self._pipes, self._domain = pipes, domain
        self._waiting: list[tuple[str, asyncio.Future[Any]]] = []
        self._out = 0

    async def check(self, account: str) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((account, answer))
        if self._out < CONNECTIONS:
            self._out += 1
            self._flight = asyncio.create_task(self._fly())
        return await answer

    async def _fly(self) -> None:
        while self._waiting:
            flying, self._waiting = self._waiting, []
            calls = [(f"latest:{self._domain}:{account}", "Deposited") for account, _ in flying]
            replies = await self._pipes.run(CHECK, calls)
            for (_, answer), reply in zip(flying, replies, strict=True):
                answer.set_result(reply)
        self._out -= 1


async def main(task: Task) -> None:
    pipes = await Pipes.opened(task.redis_url, CONNECTIONS)
    checks, topic = Checks(pipes, task.domain), f"{task.domain}.events"
    producer = AIOKafkaProducer(bootstrap_servers=task.kafka, acks="all", max_batch_size=950_000)
    await producer.start()

    async def send(account: str, data: dict[str, Any]) -> None:
        if not await checks.check(account):
            raise RuntimeError(f"deposit into {account} is forbidden")
        event = {"id": str(uuid4()), "type": "Deposited", "subject": account, "data": data}
        await producer.send_and_wait(topic, encode(event), key=account.encode())

    result = await measured(task, send, SETTINGS)
    await producer.stop()
    pipes.close()
    told(result)


if __name__ == "__main__":
    run(main(task()))
