"""Callers of a service's process: they send commands over HTTP, each until it is decided."""

import random
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

import httpx

from tests.acceptance.http_service import Service, sent
from tests.acceptance.kafka_by_hand import wait_for
from tests.faults.command_senders import Answered, Asked

LIMIT = 4
"""Seconds that the service gives itself for a request."""
SLACK = 10.0
PAUSE = 0.05
TRIES = 200
LAST = 120.0
"""Seconds for what is under way at the end to be decided."""
OPEN = {"unavailable": 503, "conflict": 409, "busy": 429}
DECIDED = {"rejected": 409}


class Callers:
    """Each has commands of its own, and sends one after the other until all are to stop."""

    def __init__(self, service: Service, domain: str, commands: Iterable[Iterator[Asked]]) -> None:
        self.service, self.domain = service, domain
        self.asked: list[Asked] = []
        self.answers: list[Answered] = []
        self._over, self._left = threading.Event(), threading.Event()
        commands = list(commands)
        self._pool = ThreadPoolExecutor(len(commands))
        self._calls: list[Future[None]] = [self._pool.submit(self._call, each) for each in commands]

    def told(self) -> int:
        """How often one of them was told that a server is away."""
        return sum(a.outcome == "unavailable" or not a.published for a in self.answers)

    def going(self) -> None:
        """Wait until each may have had another command decided."""
        due = self._decided() + len(self._calls)
        wait_for(lambda: self.well() and self._decided() >= due, f"{self.domain} to go on")

    def well(self) -> bool:
        """True; raises what a caller has raised."""
        for call in self._calls:
            if call.done():
                call.result()
        return True

    def end(self) -> None:
        """Every command that was sent is decided."""
        self._over.set()
        _, late = wait(self._calls, LAST, FIRST_EXCEPTION)
        self.well()
        assert not late, "commands are not decided though all servers are there"

    def leave(self) -> None:
        self._over.set()
        self._left.set()
        self._pool.shutdown()

    def _decided(self) -> int:
        return sum(answer.outcome not in OPEN for answer in self.answers)

    def _call(self, commands: Iterator[Asked]) -> None:
        with httpx.Client(base_url=self.service.url, timeout=LIMIT + SLACK) as client:
            for each in commands:
                self.asked.append(each)
                self._decide(client, each)
                if self._over.wait(PAUSE):
                    return

    def _decide(self, client: httpx.Client, asked: Asked) -> None:
        path = f"{self.domain}/{asked.aggregate_id}/{asked.command}"
        for _ in range(TRIES):
            found = sent(client, path, asked.data, Idempotency_Key=asked.command_id)
            answer = answered(asked, found)
            self.answers.append(answer)
            if answer.outcome not in OPEN:
                return
            if self._left.wait(random.uniform(0.2, 0.5)):
                return
        raise AssertionError(f"{asked} is not decided: {answer}")


def answered(asked: Asked, found: httpx.Response) -> Answered:
    """An answer as it may be, whatever happened to the servers; anything else is an error."""
    whose = asked.command_id, asked.aggregate_id, asked.command
    body = found.json()
    if found.status_code in (200, 202):
        told = {name: body[name] for name in ("version", "published") if name in body}
        return Answered(*whose, body["outcome"], body["event_id"], body["place"], **told)
    assert found.headers["content-type"] == "application/problem+json"
    kind = body["type"].rpartition(":")[2]
    assert found.status_code == (OPEN | DECIDED).get(kind), found.text
    reason = body.get("reason", "")
    marked = reason.rpartition(", not ")[2] if kind == "rejected" else ""
    return Answered(*whose, kind, marked=marked.replace("no event", ""), reason=reason)
