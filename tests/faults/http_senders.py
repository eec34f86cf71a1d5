"""Callers of a `serve` process: each sends commands over HTTP until they are decided."""

import random
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

import httpx

from tests.acceptance.http_service import HttpService, sent
from tests.acceptance.kafka_by_hand import wait_for
from tests.faults.command_senders import CommandAnswer, SentCommand

SERVICE_TIMEOUT_SECONDS = 4
"""Seconds that the service gives itself for a request."""
CLIENT_SLACK_SECONDS = 10.0
PAUSE_SECONDS = 0.05
MAX_TRIES = 200
END_SECONDS = 120.0
"""Seconds for what is under way at the end to be decided."""
UNDECIDED = {"unavailable": 503, "conflict": 409, "busy": 429}
DECIDED = {"rejected": 409}


class HttpSenders:
    """Callers with commands of their own; each sends one after the other until all are to stop."""

    def __init__(
        self, service: HttpService, domain: str, commands: Iterable[Iterator[SentCommand]]
    ) -> None:
        self.service, self.domain = service, domain
        self.sent_commands: list[SentCommand] = []
        self.answers: list[CommandAnswer] = []
        self._over, self._left = threading.Event(), threading.Event()
        commands = list(commands)
        self._pool = ThreadPoolExecutor(len(commands))
        self._calls: list[Future[None]] = [self._pool.submit(self._call, each) for each in commands]

    def unavailable_count(self) -> int:
        """The number of answers that name an absent server or an event not published yet."""
        return sum(a.outcome == "unavailable" or not a.published for a in self.answers)

    def wait_for_decisions(self) -> None:
        """Wait until each may have had another command decided."""
        due = self._decided() + len(self._calls)
        wait_for(lambda: self.is_well() and self._decided() >= due, f"{self.domain} to go on")

    def is_well(self) -> bool:
        """True, unless a caller has failed: its exception is raised."""
        for call in self._calls:
            if call.done():
                call.result()
        return True

    def end(self) -> None:
        """Stop sending, and wait until every command that was sent is decided."""
        self._over.set()
        _, late = wait(self._calls, END_SECONDS, FIRST_EXCEPTION)
        self.is_well()
        assert not late, "commands are not decided though all servers are there"

    def abandon(self) -> None:
        self._over.set()
        self._left.set()
        self._pool.shutdown()

    def _decided(self) -> int:
        return sum(answer.outcome not in UNDECIDED for answer in self.answers)

    def _call(self, commands: Iterator[SentCommand]) -> None:
        with httpx.Client(
            base_url=self.service.url, timeout=SERVICE_TIMEOUT_SECONDS + CLIENT_SLACK_SECONDS
        ) as client:
            for each in commands:
                self.sent_commands.append(each)
                self._decide(client, each)
                if self._over.wait(PAUSE_SECONDS):
                    return

    def _decide(self, client: httpx.Client, command: SentCommand) -> None:
        path = f"{self.domain}/{command.aggregate_id}/{command.command}"
        for _ in range(MAX_TRIES):
            found = sent(client, path, command.data, Idempotency_Key=command.command_id)
            answer = answered(command, found)
            self.answers.append(answer)
            if answer.outcome not in UNDECIDED:
                return
            if self._left.wait(random.uniform(0.2, 0.5)):
                return
        raise AssertionError(f"{command} is not decided: {answer}")


def answered(command: SentCommand, found: httpx.Response) -> CommandAnswer:
    """The answer in a response. AssertionError for a response that no fault explains."""
    head = command.command_id, command.aggregate_id, command.command
    body = found.json()
    if found.status_code in (200, 202):
        fields = {name: body[name] for name in ("version", "published") if name in body}
        return CommandAnswer(*head, body["outcome"], body["event_id"], body["place"], **fields)
    assert found.headers["content-type"] == "application/problem+json"
    kind = body["type"].rpartition(":")[2]
    assert found.status_code == (UNDECIDED | DECIDED).get(kind), found.text
    reason = body.get("reason", "")
    marked = reason.rpartition(", not ")[2] if kind == "rejected" else ""
    return CommandAnswer(*head, kind, marked=marked.replace("no event", ""), reason=reason)
