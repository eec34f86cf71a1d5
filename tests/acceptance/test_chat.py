"""Chat on servers, and in one process on a file: sockets, rooms over HTTP, and what events give."""

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from eventfleet.feeds.channel_names import ChannelNames
from tests.acceptance.chat_client import ChatClient, in_room
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT
from tests.acceptance.fleet_kinds import KINDS, open_command_fleet, servers_only
from tests.acceptance.http_service import HttpService
from tests.acceptance.kafka_by_hand import wait_for

GUIDE = (ROOT / "docs" / "guides" / "chat.md").read_text()
CHAT, ROOMS = re.findall(r"EVENTFLEET_\w+=(examples\S+)", GUIDE)
[COMMANDS] = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
[REQUESTS] = re.findall(r"```sh\nat=\S+\n(.*?)```", GUIDE, re.DOTALL)
SERVICE_RESTART = 1012
LONGER_THAN_A_CLAIM_SECONDS = 11.0


@pytest.fixture(params=KINDS)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CommandFleet]:
    with open_command_fleet(request, tmp_path, CHAT, HTTP_OPERATIONS=ROOMS) as fleet:
        yield fleet


@contextmanager
def services(fleet: CommandFleet) -> Iterator[tuple[HttpService, HttpService]]:
    """Two processes of the service; on a file the one that there can be, twice."""
    with fleet.serving() as one:
        if fleet.is_one_process:
            yield one, one
            return
        with fleet.serving() as other:
            yield one, other


def contents(service: HttpService, room: str, **asked: Any) -> list[str]:
    with service.client() as client:
        answer = client.get(f"/rooms/{room}/messages", params=asked)
        if answer.status_code == 503 and "source" in asked:
            return []  # no view is built yet
        assert answer.status_code == 200, answer.text
        return [each["content"] for each in answer.json()["messages"]]


async def a_talk(one: str, other: str) -> None:
    """Ann at one service, Bob at the other."""
    async with in_room(one, "lobby", "ann") as ann, in_room(other, "lobby", "bob") as bob:
        assert ann.opened == {"kind": "opened", "room_id": "lobby", "after": 0, "latest": 0}
        told = await ann.send("SendMessage", "m1", content="hi")
        assert (told["id"], told["outcome"], told.get("version")) == ("m1", "accepted", 1), told
        assert (await bob.send("SendMessage", "m2", content="ho"))["version"] == 2
        assert (await ann.send("SendMessage", "m1", content="hi"))["outcome"] == "repeated"
        told = await bob.send("EditMessage", "e1", target_message_id="m1", content="mine")
        assert (told["outcome"], told["reason"]) == (
            "rejected",
            "the message 'm1' is of another sender",
        )
        await ann.send("EditMessage", "e2", target_message_id="m1", content="hi all")
        await bob.send("Read", "r1", target_message_id="m1")
        await ann.send("SendMessage", "m3", content="gone")
        await ann.send("DeleteMessage", "d1", target_message_id="m3")
        for each in (ann, bob):
            await each.up_to(6)
            assert [(event["version"], event["type"]) for event in each.events] == [
                (1, "MESSAGE_SENT"),
                (2, "MESSAGE_SENT"),
                (3, "MESSAGE_EDITED"),
                (4, "READ"),
                (5, "MESSAGE_SENT"),
                (6, "MESSAGE_DELETED"),
            ]
        await what_is_no_command(ann)
    async with in_room(other, "lobby", after=4) as late:
        assert [event["version"] for event in await late.up_to(6)] == [5, 6]


async def the_guides_commands(url: str) -> None:
    async with in_room(url, "guide", "ann") as ann:
        for line in COMMANDS.splitlines():
            await ann.write(line)
            told = await ann.frame("outcome")
            assert (told["id"], told["outcome"]) == (json.loads(line)["id"], "accepted")
        assert len(await ann.up_to(6)) == 6


def the_guides_requests(url: str) -> None:
    """A message by `curl`, whose sender has nothing to read, unlike others."""
    lines = [f"at={url}; {line.replace('curl', 'curl -sS')}" for line in REQUESTS.splitlines()]
    lines.append(lines[-1].replace("bob", "ann"))
    said = [subprocess.check_output(["bash", "-c", line], text=True) for line in lines]
    sent, messages, bob, ann = map(json.loads, said)
    assert sent["outcome"] == "accepted"
    [message] = messages["messages"]
    assert (message["sender_id"], message["content"]) == ("ann", "hi")
    assert (bob["unread"], ann["unread"]) == (1, 0)
    with httpx.Client(base_url=url) as client:
        nobodys = client.post("/domains/chat/lounge/commands/SendMessage", json={"content": "hi"})
    assert nobodys.status_code == 409
    assert "X-Actor" in nobodys.json()["detail"]


async def what_is_no_command(client: ChatClient) -> None:
    for frame, field in (
        ("{", "frame"),
        ({"id": "x", "command": "SendMessage"}, "data"),
        ({"id": "", "command": "SendMessage", "data": {}}, "id"),
    ):
        await client.write(frame)
        assert (await client.frame("invalid"))["field"] == field
    told = await client.send("SendMessage", "m9", content="x" * 2_001)
    assert (told["outcome"], told["field"]) == ("invalid", "data.content")
    assert (await client.send("Shout", "m9"))["field"] == "type"


def test_services_share_rooms_and_a_room_is_read_as_it_is_and_as_it_was(
    fleet: CommandFleet,
) -> None:
    fleet.start("append project")
    with services(fleet) as (one, other):
        with nullcontext() if fleet.is_one_process else commands_on_redis(fleet):
            asyncio.run(a_talk(one.url, other.url))
            asyncio.run(the_guides_commands(one.url))
            the_guides_requests(one.url)
        check_the_store(fleet)
        assert contents(one, "lobby") == contents(other, "lobby") == ["hi all", "ho"]
        assert contents(one, "lobby", limit=1) == ["ho"]
        assert contents(one, "nowhere") == []
        with one.client() as client:
            over_http(client)
        wait_for(
            lambda: contents(other, "lobby", source="view") == ["hi all", "ho"],
            "the view to have the messages",
        )
        assert asyncio.run(stopped_with_an_open_socket(one)) == (0, SERVICE_RESTART)


@contextmanager
def commands_on_redis(fleet: CommandFleet) -> Iterator[None]:
    """The commands of the block are published on Redis."""
    names: set[str] = set()
    with fleet.redis.pubsub() as heard:
        heard.psubscribe(f"{ChannelNames.of('chat').commands}*")
        wait_for(lambda: heard.get_message(timeout=1), "the subscription")
        yield
        while message := heard.get_message(timeout=1):
            names.add(json.loads(message["data"])["command"]["name"])
    assert {"SendMessage", "EditMessage", "DeleteMessage", "Read"} <= names


def check_the_store(fleet: CommandFleet) -> None:
    """It has the events, with the fields of the study's ChatEvent, in place of messages."""
    stored = list(fleet.events.find({"aggregate_id": "lobby"}).sort("version", 1))
    fields = ("content", "target_message_id")
    assert [(each["type"], *map(each["data"].get, fields)) for each in stored] == [
        ("MESSAGE_SENT", "hi", None),
        ("MESSAGE_SENT", "ho", None),
        ("MESSAGE_EDITED", "hi all", "m1"),
        ("READ", None, "m1"),
        ("MESSAGE_SENT", "gone", None),
        ("MESSAGE_DELETED", None, "m3"),
    ]
    for each, sender in zip(stored, ("ann", "bob", "ann", "bob", "ann", "ann"), strict=True):
        assert (each["data"]["room_id"], each["data"]["sender_id"]) == ("lobby", sender)
        assert datetime.fromisoformat(each["data"]["timestamp"]).tzinfo
    if not fleet.is_one_process:
        collections = fleet.database.list_collection_names()
        tables = {name for name in collections if ".view." not in name}
        assert tables <= {"chat.events", "chat.snapshots", "chat.dead_letters", "domains"}


async def stopped_with_an_open_socket(service: HttpService) -> tuple[int, int]:
    """The exit status of a service that is stopped while somebody listens, and the socket's end."""
    async with in_room(service.url, "lobby") as client:
        status = await asyncio.to_thread(service.stop)
        code, _ = await client.closed()
        return status, code


def over_http(client: httpx.Client) -> None:
    room = client.get("/rooms/lobby").json()
    assert (room["version"], room["read"], room["members"]) == (6, {"bob": 1}, [])
    events = client.get("/rooms/lobby/messages/m1/history").json()["events"]
    assert [each["type"] for each in events] == ["MESSAGE_SENT", "MESSAGE_EDITED"]
    assert client.get("/rooms/lobby/messages/e2/history").json()["events"] == []
    at = events[0]["time"]
    was = client.get("/rooms/lobby/messages", params={"at": at}).json()["messages"]
    assert [each["content"] for each in was] == ["hi"]
    both = {"at": at, "source": "view"}
    assert client.get("/rooms/lobby/messages", params=both).status_code == 422


@servers_only("two processes of the service")
def test_a_service_that_stood_still_decides_no_command_that_was_answered(
    fleet: CommandFleet,
) -> None:
    fleet.start("append")
    with services(fleet) as (one, frozen):
        asyncio.run(answered_while_another_stands_still(one, frozen))


async def answered_while_another_stands_still(one: HttpService, frozen: HttpService) -> None:
    """It would accept the edit, once the message is there."""
    frozen.process.send_signal(signal.SIGSTOP)
    try:
        async with in_room(one.url, "lobby", "ann") as ann:
            told = await ann.send("EditMessage", "e1", target_message_id="m1", content="new")
            assert told["outcome"] == "rejected", told
            await ann.send("SendMessage", "m1", content="hi")
            await asyncio.sleep(LONGER_THAN_A_CLAIM_SECONDS)
    finally:
        frozen.process.send_signal(signal.SIGCONT)
    async with in_room(frozen.url, "lobby", "bob", after=0) as bob:
        assert (await bob.send("SendMessage", "m2", content="ho"))["outcome"] == "accepted"
        await asyncio.sleep(1)  # what it has begun of the edit comes to its end
        await bob.send("SendMessage", "m3", content="hm")
        assert [event["type"] for event in await bob.up_to(3)] == ["MESSAGE_SENT"] * 3
