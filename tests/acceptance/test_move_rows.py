"""From rows to events: the old chat's rows become messages, and any table becomes commands."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient
from pymongo.uri_parser import parse_uri
from websockets.asyncio.client import connect

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT, TIMEOUT_SECONDS
from tests.acceptance.kafka_by_hand import wait_for

EXAMPLE = ROOT / "examples" / "chat_rows.py"
NAMES = ("chat", "orders")
TO_CHAT = (
    *("--domain", "chat", "--via", "commands", "--command", "SendMessage"),
    *("--id", "id", "--case", "room_id", "--actor", "sender_id", "--time", "timestamp"),
)
ROOM = "lobby"


class TwoDomainFleet(CommandFleet):
    """A fleet of a synchronous and an asynchronous domain, whose topics are removed at the end."""

    def _remove(self) -> None:
        self.kafka.delete(t for t in self.kafka.topics() if t.partition(".")[0] in NAMES)

    def load(self, path: Path, *options: str, status: int = 0) -> dict[str, Any]:
        report: dict[str, Any] = self.json("load", str(path), *options, status=status)
        return report


@pytest.fixture(scope="module")
def fleet(
    kafka: str, mongo_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoDomainFleet]:
    folder = tmp_path_factory.mktemp("fleet")
    domains = ",".join(f"eventfleet.domains.{name}" for name in NAMES)
    servers = (kafka, mongo_url, redis_url)
    with TwoDomainFleet(servers, folder, "eventfleet.domains.chat", DOMAINS=domains) as fleet:
        fleet.start("append command")
        yield fleet


class OldChat:
    """A process of the example, on a database of its own."""

    def __init__(self, mongo_url: str, redis_url: str, folder: Path) -> None:
        self.mongo_url, self.redis_url, self.folder = mongo_url, redis_url, folder
        self.log = folder / "old_chat.log"

    @contextmanager
    def serving(self) -> "Iterator[OldChat]":
        with self.log.open("wb") as output:
            serving = [EXAMPLE, "serve", self.mongo_url, self.redis_url, "0"]
            process = subprocess.Popen(
                [sys.executable, *serving], stdout=output, stderr=subprocess.STDOUT
            )
        try:
            wait_for(lambda: self.port or process.poll() is not None, "the old chat to serve")
            assert process.poll() is None, self.log.read_text()
            yield self
        finally:
            process.terminate()
            process.wait(TIMEOUT_SECONDS)

    @property
    def port(self) -> str:
        found = re.search(r"running on http://127.0.0.1:(\d+)", self.log.read_text())
        return found[1] if found else ""

    async def send(self, sender: str, *messages: dict[str, Any]) -> None:
        url = f"ws://127.0.0.1:{self.port}/rooms/{ROOM}/socket?sender={sender}"
        async with connect(url) as socket:
            for message in messages:
                await socket.send(json.dumps(message))

    def rows(self) -> list[dict[str, str]]:
        """The rows of the room, as the old service answers them."""
        answer = httpx.get(f"http://127.0.0.1:{self.port}/rooms/{ROOM}/messages", timeout=30)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, str]] = answer.json()["messages"]
        return found

    def say(self, sender: str, **message: Any) -> None:
        """Send a message, and wait until its row is there, changed, or gone."""
        before = self.rows()
        asyncio.run(self.send(sender, message))
        wait_for(lambda: self.rows() != before, f"the row of {message}")

    def export(self) -> Path:
        path = self.folder / "rows.csv"
        subprocess.run(
            [sys.executable, EXAMPLE, "export", self.mongo_url, path],
            check=True,
            timeout=TIMEOUT_SECONDS,
        )
        return path


@pytest.fixture
def old_chat(mongo_url: str, redis_url: str, prefix: str, tmp_path: Path) -> Iterator[OldChat]:
    start, slash, options = mongo_url.partition("/?")
    url = f"{start.rstrip('/')}/{prefix}{slash and '?'}{options}"
    assert parse_uri(url)["database"] == prefix
    with OldChat(url, redis_url, tmp_path).serving() as chat:
        yield chat
    with MongoClient[Any](mongo_url) as client:
        client.drop_database(prefix)


def contents(rows: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    return [(row["id"], row["sender_id"], row["content"]) for row in rows]


def events(fleet: TwoDomainFleet, domain: str, aggregate_id: str) -> list[dict[str, Any]]:
    return fleet.json_lines("events", domain, aggregate_id)


def test_a_chat_of_rows_becomes_one_of_events_that_forgets_nothing(
    fleet: TwoDomainFleet, old_chat: OldChat
) -> None:
    old_chat.say("ann", id="m-1", content="hi")
    old_chat.say("bob", id="m-2", content="ho, there")
    old_chat.say("ann", id="m-3", content="gone")
    old_chat.say("ann", id="m-1", content="hello")
    old_chat.say("ann", id="m-3", content=None)
    rows = old_chat.rows()
    assert sorted(contents(rows)) == [("m-1", "ann", "hello"), ("m-2", "bob", "ho, there")]
    path = old_chat.export()
    assert "gone" not in path.read_text(), "a row that was deleted has left no trace"

    first = fleet.load(path, *TO_CHAT)
    assert (first["offered"], first["accepted"]) == (2, 2)
    sent = events(fleet, "chat", ROOM)
    assert [event["type"] for event in sent] == ["MESSAGE_SENT"] * 2
    assert contents([{"id": e["causationid"], **e["data"]} for e in sent]) == contents(rows), (
        "a message keeps its id, its sender and its content"
    )
    assert [e["data"]["message_id"] for e in sent] == [row["id"] for row in rows]
    assert [e["actor"] for e in sent] == [row["sender_id"] for row in rows]

    old_chat.say("bob", id="m-4", content="one more")
    again = fleet.load(old_chat.export(), *TO_CHAT)
    assert (again["accepted"], again["repeated"], again["rejected"]) == (1, 2, 0)
    state = fleet.json("state", "chat", ROOM)["state"]
    assert [message["content"] for message in state["messages"]] == [
        row["content"] for row in old_chat.rows()
    ]
