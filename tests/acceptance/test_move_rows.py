"""From rows to events: the old chat's rows become messages, and any table becomes commands."""

import asyncio
import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient
from pymongo.uri_parser import parse_uri
from redis import Redis
from websockets.asyncio.client import connect

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT, TIMEOUT_SECONDS
from tests.acceptance.kafka_by_hand import wait_for

CHANNEL = "chat_rows"
EXAMPLE = ROOT / "examples" / "chat_rows.py"
GUIDE = (ROOT / "docs" / "guides" / "move-rows-to-events.md").read_text()
NAMES = ("chat", "orders")
TO_CHAT = (
    *("--domain", "chat", "--via", "commands", "--command", "SendMessage"),
    *("--id", "id", "--case", "room_id", "--actor", "sender_id", "--time", "timestamp"),
)
ROOM, GUIDE_ROOM = "lobby", "hall"
"""The guide's room is the tests' as well: its blocks run in another, for their ids are the same."""


class TwoDomainFleet(CommandFleet):
    """A fleet of a synchronous and an asynchronous domain, whose topics are removed at the end."""

    def _remove(self) -> None:
        self.kafka.delete(t for t in self.kafka.topics() if t.partition(".")[0] in NAMES)

    def load_table(self, path: Path, *options: str, status: int = 0) -> dict[str, Any]:
        report: dict[str, Any] = self.json("load", str(path), *options, status=status)
        return report


@pytest.fixture(scope="module")
def fleet(
    kafka: str, mongo_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoDomainFleet]:
    folder = tmp_path_factory.mktemp("fleet")
    domains = "examples.chat,eventfleet.domains.orders"
    servers = (kafka, mongo_url, redis_url)
    with TwoDomainFleet(servers, folder, "examples.chat", DOMAINS=domains) as fleet:
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

    def rows(self, room: str = ROOM) -> list[dict[str, str]]:
        """The rows of a room, as the old service answers them."""
        answer = httpx.get(f"http://127.0.0.1:{self.port}/rooms/{room}/messages", timeout=30)
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


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def contents(rows: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    return [(row["id"], row["sender_id"], row["content"]) for row in rows]


def events(fleet: TwoDomainFleet, domain: str, aggregate_id: str) -> list[dict[str, Any]]:
    return fleet.json_lines("events", domain, aggregate_id)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def run(fleet: TwoDomainFleet, old_chat: OldChat, lines: str) -> str:
    """The output of shell lines in a checkout, with the environment that a reader has."""
    scripts = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    lines = lines.replace("rows.csv", str(old_chat.folder / "rows.csv"))
    done = subprocess.run(
        ["bash", "-ec", lines],
        cwd=ROOT,
        env=fleet.environment | {"PATH": scripts, "EVENTFLEET_MONGO_URL": old_chat.mongo_url},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# What the rows are, before they move


def stored_rows(old_chat: OldChat) -> dict[str, list[dict[str, Any]]]:
    """What the old chat has in MongoDB, by collection."""
    with MongoClient[Any](old_chat.mongo_url) as client:
        database = client.get_default_database()
        return {name: list(database[name].find()) for name in database.list_collection_names()}


def test_the_old_chat_goes_from_the_socket_over_redis_to_a_row_that_is_read(
    old_chat: OldChat,
) -> None:
    with Redis.from_url(old_chat.redis_url) as redis, redis.pubsub() as heard:
        heard.subscribe(CHANNEL)
        wait_for(lambda: heard.get_message(timeout=1), "the subscription")
        old_chat.say("ann", id="m-1", content="hi")
        published = wait_for(lambda: heard.get_message(timeout=1), "the message on Redis")
        message = json.loads(published["data"])
        assert (message["id"], message["sender_id"], message["content"]) == ("m-1", "ann", "hi")
        # What comes over Redis is stored, whoever has published it.
        redis.publish(CHANNEL, json.dumps(message | {"id": "m-2", "content": "ho"}))
        wait_for(lambda: len(old_chat.rows()) == 2, "the row of what was published")
    stored = {row["_id"]: row["content"] for row in stored_rows(old_chat)["messages"]}
    assert stored == {"m-1": "hi", "m-2": "ho"}
    assert {row["id"]: row["content"] for row in old_chat.rows()} == stored


def test_the_old_chats_log_is_a_file_beside_its_rows_from_which_nothing_comes_back(
    old_chat: OldChat,
) -> None:
    """It says that somebody came and asked, not what the state is; without it the rows are."""
    old_chat.say("ann", id="m-1", content="a greeting")
    log, rows = old_chat.log.read_text(), old_chat.rows()
    assert re.search(r"WebSocket /rooms/lobby/socket\?sender=ann.*accepted", log)
    assert "GET /rooms/lobby/messages" in log
    assert "a greeting" not in log
    assert stored_rows(old_chat).keys() == {"messages"}

    port = old_chat.port
    old_chat.log.write_text(f"running on http://127.0.0.1:{port}\n")
    assert old_chat.rows() == rows
    with MongoClient[Any](old_chat.mongo_url) as client:
        client.get_default_database().messages.delete_one({"_id": "m-1"})
    assert old_chat.rows() == []


def test_a_chat_of_rows_becomes_one_of_events_with_ids_senders_and_times(
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
    assert not re.search("gone|hi$", path.read_text(), re.MULTILINE)

    first = fleet.load_table(path, *TO_CHAT)
    assert (first["offered"], first["accepted"]) == (2, 2)
    sent = events(fleet, "chat", ROOM)
    assert [each["type"] for each in sent] == ["MESSAGE_SENT"] * 2
    assert [each["data"]["message_id"] for each in sent] == [row["id"] for row in rows]
    assert [each["causationid"] for each in sent] == [row["id"] for row in rows]
    assert [each["actor"] for each in sent] == [row["sender_id"] for row in rows]
    assert [each["data"]["content"] for each in sent] == [row["content"] for row in rows]
    assert [moment(each["time"]) for each in sent] == [moment(row["timestamp"]) for row in rows]


def test_a_second_load_adds_what_is_new_and_rejects_what_has_changed(
    fleet: TwoDomainFleet, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    header = "id,room_id,sender_id,content,timestamp\n"
    rows = [f"{id},attic,ann,{id},2024-03-01 09:0{id}:00\n" for id in range(4)]
    path.write_text(header + "".join(rows[:3]))
    assert fleet.load_table(path, *TO_CHAT)["accepted"] == 3
    path.write_text(header + "".join([rows[0], rows[1].replace("ann,1", "ann,edited"), *rows[2:]]))
    again = fleet.load_table(path, *TO_CHAT)
    assert (again["accepted"], again["repeated"], again["rejected"]) == (1, 2, 1)
    assert list(again["reasons"]) == [
        "the command's id was used for another, which made MESSAGE_SENT"
    ]
    assert [each["data"]["content"] for each in events(fleet, "chat", "attic")] == [*"0123"]


ORDERS = """id,order,customer,total,currency,at
7,o-1,ann,1999,EUR,2024-03-01T09:00:00Z
,o-2,bob,1,EUR,2024-03-01T09:01:00Z
9,o-3,bob,much,EUR,2024-03-01T09:02:00Z
10,o-4,,1,EUR,2024-03-01T09:03:00Z
11,o-5,cid,1,EUR,yesterday
7,o-6,dan,5,EUR,2024-03-01T09:04:00Z
"""


def test_rows_of_an_asynchronous_domain_and_bad_ones_by_line_and_column(
    fleet: TwoDomainFleet, tmp_path: Path
) -> None:
    """An id may be another aggregate's, too; `customer` is the actor and a field."""
    path = tmp_path / "orders.csv"
    path.write_text(ORDERS)
    options = (
        *("--domain", "orders", "--via", "commands", "--command", "Place"),
        *("--id", "id", "--case", "order", "--actor", "customer", "--time", "at"),
    )
    first = fleet.load_table(path, *options, status=1)
    assert (first["offered"], first["accepted"], first["refused"]) == (6, 2, 4)
    assert first["problems"] == [
        f"{path}, line 3: id: is missing",
        f"{path}, line 4: data.total: 'much' is not a number",
        f"{path}, line 5: customer: is missing",
        f"{path}, line 6: at: 'yesterday' is not a time",
    ]
    again = fleet.load_table(path, *options, status=1)
    assert (again["accepted"], again["repeated"], again["refused"]) == (0, 2, 4)
    fleet.settle("append")
    for order, customer, minute in (("o-1", "ann", 0), ("o-6", "dan", 4)):
        [placed] = wait_for(lambda order=order: events(fleet, "orders", order), order)
        assert (placed["type"], placed["actor"], placed["causationid"]) == ("Placed", customer, "7")
        assert placed["data"]["customer"] == customer
        assert moment(placed["time"]) == datetime(2024, 3, 1, 9, minute, tzinfo=UTC)


# The guide


def test_the_guides_blocks_move_a_chat(fleet: TwoDomainFleet, old_chat: OldChat) -> None:
    serve, write, move = (block.replace(ROOM, GUIDE_ROOM) for block in blocks("sh"))
    assert serve == (
        'python examples/chat_rows.py serve "$EVENTFLEET_MONGO_URL" "$EVENTFLEET_REDIS_URL" 8090\n'
    )
    *said, shown = write.replace("8090", old_chat.port).splitlines()
    run(fleet, old_chat, "\n".join(said))
    wait_for(lambda: '"hello"' in json.dumps(old_chat.rows(GUIDE_ROOM)), "the edit")
    assert '"content":"hello"' in (answer := run(fleet, old_chat, shown))
    assert '"content":"hi"' not in answer
    moved = run(fleet, old_chat, move)
    assert re.findall(r"^ *(?:accepted|refused) +(\d+)", moved, re.MULTILINE) == ["2", "0"]
    assert moved.count("MESSAGE_SENT") == 2


def test_the_guides_program_sends_what_happened_when_it_did(fleet: TwoDomainFleet) -> None:
    [program] = blocks("python")
    for outcome in ("Accepted", "Repeated"):
        done = subprocess.run(
            [sys.executable, "-c", program.replace("attic", "loft")],
            env=fleet.environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        assert [line.partition("(")[0] for line in done.stdout.splitlines()] == [outcome] * 3
    [shown] = re.findall(r"`eventfleet (state chat attic --at .*)`", GUIDE)
    for asked, messages in (
        (shown, ["to be forgotten", "to be kept"]),
        (shown.partition(" --at")[0], ["to be kept"]),
    ):
        room = fleet.json(*asked.replace("attic", "loft").split())["state"]
        assert [each["content"] for each in room["messages"]] == messages
