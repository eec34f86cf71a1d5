"""Sockets of rooms over servers in memory: who may open one, and what is said on it."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from eventfleet import Domain, Followed
from eventfleet.deciders.commander import Commander
from eventfleet.deciders.event_publisher import EventPublisher
from eventfleet.deciders.manager import Manager
from eventfleet.deciders.outcomes import Accepted, Failed
from eventfleet.feeds import channel_commands
from eventfleet.feeds.channel_commands import (
    ChannelCommand,
    ChannelCommandSender,
    ChannelCommandSubscriber,
    ChannelOutcome,
    LeftAggregates,
    ServerTime,
)
from eventfleet.feeds.channel_names import ChannelNames
from eventfleet.feeds.feed_hub import FeedHub, TooSlow
from eventfleet.feeds.feed_session import FollowedDomain
from eventfleet.service.event_service import EventService
from eventfleet.states.querier import Querier
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.stores.memory.channels import MemoryChannels
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryFollower, MemoryLog, MemoryProducer
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.names import Topics
from eventfleet.topics.topic_specs import declare_topics
from eventfleet.web import LocalAccess, TokenAccess, feed_sockets
from eventfleet.web.access import Access, Grant
from eventfleet.web.feed_sockets import TOKEN_PREFIX, FeedPath, FeedSockets
from eventfleet.web.problems import (
    BUSY,
    TOKEN_REFUSED,
    UNAVAILABLE,
    ProblemType,
    RequestRefused,
)
from examples.chat.domain import Join, chat
from examples.chat.rooms import SOCKET
from tests.unit.room_events import record, sent

KEY = OctKey.import_key("a key of the test's own, of 32 bytes")


def token(
    subject: str | None = "ann",
    scope: str = "chat:read chat:write",
    lives: int = 60,
    **more: Any,
) -> str:
    claims = {"scope": scope, "exp": int(SystemClock().now().timestamp()) + lives, **more}
    return jwt.encode({"alg": "HS256"}, claims | ({"sub": subject} if subject else {}), KEY)


class Service:
    """A process that serves rooms; several may share the servers."""

    def __init__(
        self,
        access: Access,
        kept: "Service | None" = None,
        domain: Domain[Any] = chat,
        origins: Sequence[str] = (),
    ) -> None:
        self.access, self.domain, self.origins = access, domain, origins
        self.log = kept.log if kept else MemoryLog()
        if not kept:
            for spec in declare_topics(Topics.of("chat", ""), 1, 1, -1):
                self.log.create(spec)
        self.events = kept.events if kept else MemoryEvents(domain="chat")
        self.channels = kept.channels if kept else MemoryChannels()
        self.sockets: dict[str, FeedSockets] = {}
        self.sender: ChannelCommandSender = None  # type: ignore[assignment]

    @asynccontextmanager
    async def running(self, app: object = None) -> AsyncIterator[None]:
        clock, snapshots = SystemClock(), MemorySnapshots(3)
        querier = Querier(chat, DomainStores(self.events, snapshots), clock)
        saver = SnapshotSaver(chat, snapshots, clock, limit=100_000)
        commander = Commander(self.events, saver, partitions=1)
        publisher = EventPublisher(MemoryProducer(self.log), "chat.events", clock, partitions=1)
        manager = Manager(chat, querier, commander, publisher, clock)
        service = EventService(chat, manager, querier, clock, Uuid7Generator())
        hub = FeedHub(MemoryFollower(self.log), self.channels, chat, querier, 1)
        self.sender = ChannelCommandSender(self.channels, "chat")
        self.subscriber = ChannelCommandSubscriber(self.channels, "chat", service)
        followed = {"chat": FollowedDomain(self.domain, querier, hub, self.sender)}
        self.sockets = feed_sockets.feed_sockets(self.access, followed, [SOCKET], self.origins)
        async with (
            manager.running(),
            service,
            hub.running(),
            self.subscriber.running(),
            self.sender.running(),
        ):
            yield

    def client(self) -> TestClient:
        paths = (FeedPath().path, SOCKET.path)
        routes = [WebSocketRoute(path, LateSockets(self, path)) for path in paths]
        return LocalClient(Starlette(routes=routes, lifespan=self.running))


class LocalClient(TestClient):
    """A client of localhost."""

    def websocket_connect(self, url: str, *more: Any, **options: Any) -> Any:
        return super().websocket_connect(f"ws://localhost{url}", *more, **options)


class LateSockets:
    """The sockets of a service, which are made once it runs."""

    def __init__(self, service: Service, path: str) -> None:
        self._service, self._path = service, path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._service.sockets[self._path](scope, receive, send)


@pytest.fixture
def local() -> Iterator[TestClient]:
    with Service(LocalAccess()).client() as client:
        yield client


@pytest.fixture
def secured() -> Iterator[TestClient]:
    with Service(TokenAccess(KEY)).client() as client:
        yield client


def frame(socket: Any, kind: str) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = json.loads(socket.receive_text())
        if found["kind"] == kind:
            return found


def say(socket: Any, id: str, command: str = "SendMessage", **data: Any) -> dict[str, Any]:
    socket.send_text(json.dumps({"id": id, "command": command, "data": data}))
    return frame(socket, "outcome")


def message(id: str) -> dict[str, Any]:
    return {"id": id, "command": "SendMessage", "data": {"content": "hi"}}


def refused(client: TestClient, path: str = "/rooms/r/socket", **options: Any) -> tuple[int, str]:
    with (
        pytest.raises(WebSocketDenialResponse) as caught,
        client.websocket_connect(path, **options),
    ):
        pass
    problem = caught.value.json()
    return problem["status"], problem["detail"]


# What is said


def test_a_message_is_told_to_all_in_the_room(local: TestClient) -> None:
    with (
        local.websocket_connect("/rooms/r/socket?sender=ann") as ann,
        local.websocket_connect("/rooms/r/socket?sender=bob") as bob,
    ):
        assert say(ann, "m1", content="hi")["outcome"] == "accepted"
        told = frame(bob, "event")["event"]
        assert (told["version"], told["type"], told["actor"]) == (1, "MESSAGE_SENT", "ann")
        assert told["data"]["sender_id"] == "ann"


def test_a_message_sent_again_is_there_once(local: TestClient) -> None:
    with local.websocket_connect("/rooms/r/socket?sender=ann") as ann:
        assert say(ann, "m1", content="hi")["outcome"] == "accepted"
        assert say(ann, "m1", content="hi") == {
            "kind": "outcome",
            "id": "m1",
            "outcome": "repeated",
            "version": 1,
        }
        told = say(ann, "m1", content="other")
        assert (told["outcome"], told["reason"][:18]) == ("rejected", "the command's id w")


def test_who_comes_back_gets_what_was_missed(local: TestClient) -> None:
    with local.websocket_connect("/rooms/r/socket?sender=ann") as ann:
        for number in range(1, 6):
            say(ann, f"m{number}", content="hi")
    with local.websocket_connect("/rooms/r/socket?after=2") as late:
        assert frame(late, "opened") == {
            "kind": "opened",
            "room_id": "r",
            "after": 2,
            "latest": 5,
        }
        assert [frame(late, "event")["event"]["version"] for _ in range(3)] == [3, 4, 5]


def test_who_missed_too_much_is_told_to_read_the_messages(
    local: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfleet.feeds.feed_session.MAX_MISSED_EVENTS", 2)
    with (
        local.websocket_connect("/rooms/r/socket?sender=ann") as ann,
        local.websocket_connect("/rooms/r/socket?sender=bob") as bob,
    ):
        for number in range(1, 6):
            say(ann, f"m{number}", content="hi")
        # An outcome may come before the room knows of the event.
        assert [frame(bob, "event")["event"]["version"] for _ in range(5)] == [1, 2, 3, 4, 5]
        with local.websocket_connect("/rooms/r/socket?after=2") as late:
            assert frame(late, "opened")["after"] == 5
            say(ann, "m6", content="hi")
            assert frame(late, "event")["event"]["version"] == 6
        with local.websocket_connect("/rooms/r/socket?after=99") as ahead:
            assert frame(ahead, "opened")["after"] == 6


def test_who_comes_back_to_a_process_that_lags_is_served_from_its_own_version_on() -> None:
    service = Service(LocalAccess())
    with service.client() as client, client.websocket_connect("/rooms/r/socket") as lagging:
        frame(lagging, "opened")
        for version in range(1, 36):  # of another process: neither log nor channel brings them
            client.portal.call(service.events.put, [record("r", version, sent(version))], 0)
        with client.websocket_connect("/rooms/r/socket?after=35&sender=ann") as ann:
            opened = frame(ann, "opened")
            assert (opened["after"], opened["latest"]) == (35, 35)
            say(ann, "m36", content="hi")
        with client.websocket_connect("/rooms/r/socket?after=35") as bob:
            assert frame(bob, "event")["event"]["version"] == 36
        versions = [frame(lagging, "event")["event"]["version"] for _ in range(36)]
        assert versions == list(range(1, 37))


def test_each_event_comes_once_to_who_comes_back_to_a_process_that_lags() -> None:
    service = Service(LocalAccess())
    with service.client() as client, client.websocket_connect("/rooms/r/socket") as lagging:
        frame(lagging, "opened")
        for version in range(1, 36):
            client.portal.call(service.events.put, [record("r", version, sent(version))], 0)
        with client.websocket_connect("/rooms/r/socket?after=30&sender=ann") as ann:
            assert frame(ann, "opened")["after"] == 30
            for number in range(36, 39):
                ann.send_text(json.dumps(message(f"m{number}")))
            versions = [frame(ann, "event")["event"]["version"] for _ in range(8)]
            assert versions == list(range(31, 39))


def test_a_socket_sends_the_commands_that_it_may_send() -> None:
    domain = replace(chat, followed=Followed(commands=[Join]))
    with (
        Service(LocalAccess(), domain=domain).client() as client,
        client.websocket_connect("/rooms/r/socket?sender=ann") as ann,
    ):
        told = say(ann, "m1", content="hi")
        assert (told["outcome"], told["field"]) == ("invalid", "type")
        assert told["reason"].endswith("is not a command that a socket may send; known: Join")
        assert say(ann, "j1", "Join")["outcome"] == "accepted"


def test_an_aggregate_of_any_followed_domain_has_a_socket(local: TestClient) -> None:
    with local.websocket_connect("/domains/chat/r/socket?sender=ann") as ann:
        expected = {"kind": "opened", "aggregate_id": "r", "after": 0, "latest": 0}
        assert frame(ann, "opened") == expected
        assert say(ann, "m1", content="hi")["outcome"] == "accepted"
    status, detail = refused(local, "/domains/nothing/r/socket")
    assert (status, detail) == (404, "'nothing' is not a domain to follow; known: chat")


def test_a_room_may_have_any_name(local: TestClient) -> None:
    with local.websocket_connect("/rooms/r%C3%A4um%20%25/socket?sender=ann") as ann:
        assert frame(ann, "opened")["room_id"] == "räum %"


def test_an_invalid_path_is_refused_before_the_socket_is_open(local: TestClient) -> None:
    status, detail = refused(local, "/rooms/r%00/socket")
    assert (status, detail) == (422, "id: has a NUL")


def test_foreign_messages_of_the_channels_are_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service(LocalAccess())
    with service.client() as client:
        assert client.portal
        for channel in (ChannelNames.of("chat").commands, service.sender._reply_to):
            messages = {channel: [b'{"number":"\xe9"}', b'{"number":' + b"[" * 100_000]}
            client.portal.call(service.channels.publish, messages)
        with client.websocket_connect("/rooms/r/socket?sender=ann") as ann:
            assert say(ann, "m1", content="hi")["outcome"] == "accepted"
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ("{", "frame"),
        ("[]", "frame"),
        ("[" * 10_000, "frame"),
        ('{"id":"m","command":"SendMessage"}', "data"),
        ('{"id":"m","command":"SendMessage","data":{},"actor":"eve"}', "actor"),
        ('{"id":"","command":"SendMessage","data":{}}', "id"),
        ('{"id":"m","command":"SendMessage","data":{"content":"a","content":"b"}}', "content"),
        (
            '{"id":"m","command":"SendMessage","data":{"content":' + str(2**64) + "}}",
            "data.content",
        ),
    ],
)
def test_what_is_no_command_is_told_and_the_socket_stays(
    local: TestClient, said: str, field: str
) -> None:
    with local.websocket_connect("/rooms/r/socket?sender=ann") as ann:
        ann.send_text(said)
        assert field in frame(ann, "invalid")["field"] or field == "frame"
        assert say(ann, "m1", content="hi")["outcome"] == "accepted"


def test_commands_of_a_socket_are_decided_in_their_order(local: TestClient) -> None:
    with local.websocket_connect("/rooms/r/socket?sender=ann") as ann:
        for number in range(20):
            data = {"content": "hi"}
            ann.send_text(json.dumps({"id": f"m{number}", "command": "SendMessage", "data": data}))
        told = [frame(ann, "outcome") for _ in range(20)]
        assert [each["version"] for each in told] == list(range(1, 21))


# Who may


def test_a_sender_is_the_tokens_subject(secured: TestClient) -> None:
    for number, options in enumerate(
        (
            {"headers": {"authorization": f"Bearer {token('ann')}"}},
            {"subprotocols": [SOCKET.subprotocol, f"{TOKEN_PREFIX}{token('ann')}"]},
        )
    ):
        with secured.websocket_connect("/rooms/r/socket?sender=bob", **options) as ann:  # type: ignore[arg-type]
            said = {"id": f"m{number}", "command": "SendMessage", "data": {"content": "hi"}}
            ann.send_text(json.dumps(said))
            assert frame(ann, "event")["event"]["data"]["sender_id"] == "ann"
            expected = SOCKET.subprotocol if "subprotocols" in options else None
            assert ann.accepted_subprotocol == expected


def test_a_token_without_a_subject_sends_nothing(secured: TestClient) -> None:
    headers = {"authorization": f"Bearer {token(None)}"}
    with secured.websocket_connect("/rooms/r/socket?sender=bob", headers=headers) as nobody:
        told = say(nobody, "m1", content="hi")
        assert (told["outcome"], "nobody is named" in told["reason"]) == ("rejected", True)


def test_who_may_only_read_listens_and_sends_nothing(secured: TestClient) -> None:
    headers = {"authorization": f"Bearer {token(scope='chat:read')}"}
    with secured.websocket_connect("/rooms/r/socket", headers=headers) as reader:
        assert say(reader, "m1", content="hi")["reason"] == "the scope chat:write is required"


def test_who_may_not_read_gets_no_socket(secured: TestClient) -> None:
    assert refused(secured)[0] == 401
    headers = {"authorization": "Bearer nothing"}
    assert refused(secured, headers=headers)[0] == 401
    headers = {"authorization": f"Bearer {token(scope='chat:write')}"}
    assert refused(secured, headers=headers) == (403, "the scope chat:read is required")


@pytest.mark.parametrize("path", ["/rooms/{}/socket", "/domains/chat/{}/socket"])
def test_a_token_bound_to_rooms_follows_these_only(secured: TestClient, path: str) -> None:
    bound = token(aggregate_ids=["chat:r"], aggregate_prefixes=["chat:team-"])
    headers = {"authorization": f"Bearer {bound}"}
    for own in ("r", "team-1"):
        with secured.websocket_connect(path.format(own), headers=headers) as ann:
            assert say(ann, "m1", content="hi")["outcome"] == "accepted"
    for other in ("s", "r1", "team"):
        reason = f"the caller's rights do not include {other!r}"
        assert refused(secured, path.format(other), headers=headers) == (403, reason)


def test_an_application_may_take_time_to_say_who_may() -> None:
    class Users:
        secured = True

        async def grant(self, request: Request) -> Grant:
            await asyncio.sleep(0)
            return Grant(request.headers.get("x-user"), frozenset({"chat:read", "chat:write"}))

    with (
        Service(Users()).client() as client,
        client.websocket_connect("/rooms/r/socket", headers={"x-user": "ann"}) as ann,
    ):
        assert say(ann, "m1", content="hi")["outcome"] == "accepted"


@pytest.mark.parametrize(
    ("refusal", "code"), [(UNAVAILABLE, 1013), (BUSY, 1013), (TOKEN_REFUSED, 1008)]
)
def test_a_socket_whose_token_cannot_be_checked_again_may_come_back(
    refusal: ProblemType, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Users:
        secured = True
        asked = 0

        def grant(self, request: Request) -> Grant:
            self.asked += 1
            if self.asked > 1:
                raise RequestRefused(refusal)
            return Grant("ann", frozenset({"chat:read"}))

    monkeypatch.setattr(feed_sockets, "RECHECK_SECONDS", 0.1)
    with (
        Service(Users()).client() as client,
        client.websocket_connect("/rooms/r/socket") as ann,
    ):
        frame(ann, "opened")
        with pytest.raises(WebSocketDisconnect) as caught:
            ann.receive_text()
        assert caught.value.code == code


def test_without_tokens_scripts_of_other_sites_get_no_socket(local: TestClient) -> None:
    status, detail = refused(local, headers={"origin": "http://evil.example"})
    assert (status, "evil.example" in detail) == (421, True)
    assert refused(local, headers={"host": "evil.example"})[0] == 421
    headers = {"origin": "http://localhost"}
    with local.websocket_connect("/rooms/r/socket?sender=ann", headers=headers) as ann:
        assert say(ann, "m1", content="hi")["outcome"] == "accepted"


def test_without_tokens_scripts_of_listed_sites_get_sockets() -> None:
    page = {"origin": "http://localhost:3000"}
    with Service(LocalAccess(), origins=["http://localhost:3000"]).client() as local:
        with local.websocket_connect("/rooms/r/socket", headers=page) as ann:
            frame(ann, "opened")
        for other in ("http://localhost:3001", "https://localhost:3000", "null"):
            assert refused(local, headers={"origin": other})[0] == 421


@pytest.mark.parametrize("after", ["x", "-1", "1.0", "9" * 30, "²"])
def test_a_version_that_is_none_is_refused(local: TestClient, after: str) -> None:
    assert refused(local, f"/rooms/r/socket?after={after}")[0] == 422


def closed(client: TestClient, **options: Any) -> tuple[int, str]:
    with client.websocket_connect("/rooms/r/socket", **options) as socket:
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_text()
        return caught.value.code, caught.value.reason


def test_sockets_beyond_the_limit_are_closed_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_sockets, "MAX_SOCKETS", 1)
    with Service(LocalAccess()).client() as local:
        with local.websocket_connect("/rooms/r/socket") as one:
            frame(one, "opened")
            assert closed(local) == (1013, "the limit is 1 open sockets")
        with local.websocket_connect("/rooms/r/socket") as next_one:
            frame(next_one, "opened")


@pytest.mark.parametrize(
    ("fault", "reason", "logged"),
    [
        (TooSlow("the client let 3 events wait"), "the client let 3 events wait", ""),
        (TimeoutError(), "the client took no frame for 10 s", ""),
        (
            ServerUnavailable("MongoDB is away"),
            "the service cannot answer for now",
            "MongoDB is away",
        ),
    ],
)
def test_a_socket_that_is_cut_off_tells_client_and_log_why(
    fault: Exception,
    reason: str,
    logged: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A client that takes no frame makes the sending time out."""

    class FaultyWebSocket(WebSocket):
        async def send_text(self, data: str) -> None:
            raise fault

    monkeypatch.setattr(feed_sockets, "WebSocket", FaultyWebSocket)
    with Service(LocalAccess()).client() as local:
        assert closed(local) == (1013, reason)
    assert caplog.messages == [f"GET /rooms/r/socket was cut off: {logged or reason}"]


def test_a_reason_is_cut_to_the_bytes_that_a_close_frame_has(
    local: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> None:
        raise RequestRefused(BUSY, "ä" * 100)

    monkeypatch.setattr(feed_sockets, "RECHECK_SECONDS", 0.1)
    with local.websocket_connect("/rooms/r/socket") as ann:
        frame(ann, "opened")
        monkeypatch.setattr(FeedSockets, "_authorize", refuse)
        with pytest.raises(WebSocketDisconnect) as caught:
            ann.receive_text()
    assert (caught.value.code, caught.value.reason) == (1013, "ä" * 61)


def bearer(subject: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {token(subject)}"}


def test_one_token_opens_half_of_the_sockets_and_others_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_sockets, "MAX_SOCKETS", 4)
    with Service(TokenAccess(KEY)).client() as client, ExitStack() as opened:
        for subject in ("ann", "ann", None, "ben"):
            url = "/domains/chat/r/socket" if subject == "ben" else "/rooms/r/socket"
            connecting = client.websocket_connect(url, headers=bearer(subject))
            frame(opened.enter_context(connecting), "opened")
            if subject is None:
                reason = "the limit of one caller is 2 of 4 open sockets"
                assert closed(client, headers=bearer("ann")) == (1013, reason)
        assert closed(client, headers=bearer("eve")) == (1013, "the limit is 4 open sockets")


def test_one_token_has_so_many_commands_of_its_sockets_decided_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_sockets, "MAX_COMMANDS_OF_CALLER", 1)
    service, ann, ben = Service(TokenAccess(KEY)), bearer("ann"), bearer("ben")
    with (
        service.client() as client,
        client.websocket_connect("/rooms/r/socket", headers=ann) as first,
        client.websocket_connect("/rooms/q/socket", headers=ann) as second,
        client.websocket_connect("/rooms/r/socket", headers=ben) as other,
    ):
        send, held, release = service.sender.send, threading.Event(), threading.Event()

        async def send_later(command: ChannelCommand) -> ChannelOutcome:
            if command.id == "m1":
                held.set()
                await asyncio.to_thread(release.wait)
            return await send(command)

        monkeypatch.setattr(service.sender, "send", send_later)
        first.send_text(json.dumps(message("m1")))
        held.wait()
        refusal = say(second, "m2", content="hi")
        assert (refusal["outcome"], "the limit of one caller is 1 of" in refusal["reason"]) == (
            "unavailable",
            True,
        )
        assert say(other, "m3", content="hi")["outcome"] == "accepted"
        release.set()
        assert frame(first, "outcome")["outcome"] == "accepted"
        assert say(second, "m2", content="hi")["outcome"] == "accepted"


def test_a_socket_ends_with_its_token(secured: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_sockets, "RECHECK_SECONDS", 0.1)
    headers = {"authorization": f"Bearer {token(lives=-29)}"}
    with secured.websocket_connect("/rooms/r/socket", headers=headers) as ann:
        frame(ann, "opened")
        with pytest.raises(WebSocketDisconnect) as caught:
            ann.receive_text()
        assert caught.value.code == feed_sockets.POLICY_VIOLATION


# Who decides


async def talk(service: Service, message_id: str) -> ChannelOutcome:
    command = ChannelCommand(message_id, "SendMessage", "r", "ann", {"content": "hi"})
    return await service.sender.send(command)


async def test_of_several_subscribers_one_decides() -> None:
    first = Service(LocalAccess())
    second = Service(LocalAccess(), first)
    async with first.running(), second.running():
        sent = [
            (first, second)[n % 2].sender.send(
                ChannelCommand(f"m{n}", "SendMessage", "r", "ann", {"content": "hi"})
            )
            for n in range(50)
        ]
        outcomes = await asyncio.gather(*sent)
        assert sorted(each.version for each in outcomes) == list(range(1, 51))
        assert {each.outcome for each in outcomes} == {"accepted"}


async def test_the_next_command_of_a_room_is_left_to_who_decided_the_last_one() -> None:
    first = Service(LocalAccess())
    second = Service(LocalAccess(), first)
    async with first.running():
        async with second.running():
            first.subscriber.left_aggregates.note_claim("r", is_mine=False)
            outcomes = [await talk(first, f"m{n}") for n in range(5)]
            assert [each.version for each in outcomes] == list(range(1, 6))
            assert "r" in first.subscriber.left_aggregates
        assert (await talk(first, "m5")).version == 6
        assert "r" not in first.subscriber.left_aggregates


def test_a_room_is_left_to_another_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = LeftAggregates()
    rooms.note_claim("r", is_mine=False)
    assert "r" in rooms
    rooms.note_claim("r", is_mine=True)
    assert "r" not in rooms
    monkeypatch.setattr(channel_commands, "LEFT_SECONDS", 0.0)
    rooms.note_claim("r", is_mine=False)
    assert "r" not in rooms


def test_the_rooms_left_to_others_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_commands, "MAX_LEFT_AGGREGATES", 2)
    rooms = LeftAggregates()
    for room_id in "abc":
        rooms.note_claim(room_id, is_mine=False)
    assert [room_id in rooms for room_id in "abc"] == [False, True, True]


async def test_a_command_whose_subscriber_dies_has_no_outcome_and_is_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel_commands, "OUTCOME_SECONDS", 0.5)
    service = Service(LocalAccess())
    command = ChannelCommand("m1", "SendMessage", "r", "ann", {"content": "hi"})
    async with service.running():
        await service.sender.send(ChannelCommand("m0", "Join", "r", "ann", {}))
        publish = service.channels.publish

        async def die(messages: Any) -> None:
            """The subscriber is gone once the event is stored."""
            if any(name.startswith(ChannelNames.of("chat").outcomes) for name in messages):
                return
            await publish(messages)

        service.channels.publish = die  # type: ignore[method-assign]
        untold = await service.sender.send(command)
        assert (untold.outcome, untold.version) == ("unavailable", 0)
        service.channels.publish = publish  # type: ignore[method-assign]
        assert await service.sender.send(command) == ChannelOutcome("m1", "repeated", 2)


async def test_without_redis_nothing_is_known_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel_commands, "OUTCOME_SECONDS", 1.0)
    service = Service(LocalAccess())
    command = ChannelCommand("m1", "SendMessage", "r", "ann", {"content": "hi"})
    async with service.running():
        service.channels.stop()
        assert (await service.sender.send(command)).outcome == "unavailable"
        service.channels.start()
        async with asyncio.timeout(20):
            while (told := await service.sender.send(command)).outcome == "unavailable":
                pass
        assert told.outcome == "accepted"


async def test_the_servers_clock_is_looked_at_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    time = ServerTime(MemoryChannels(now=lambda: clock[0]))
    now = asyncio.get_running_loop().time()
    assert (await time.at(now)).time == pytest.approx(100, abs=1)
    clock[0] = 500.0
    assert (await time.at(now)).time == pytest.approx(100, abs=1)
    monkeypatch.setattr(channel_commands, "LOOK_SECONDS", 0.0)
    assert (await time.at(now)).time == pytest.approx(500, abs=1)


def test_an_event_that_the_stream_does_not_have_yet_is_not_told_as_accepted() -> None:
    command = ChannelCommand("m1", "SendMessage", "r", "ann", {"content": "hi"})
    told = channel_commands.to_channel_outcome(command, Accepted("e", "chat.events/0", 3, False))
    assert (told.outcome, told.version) == ("unavailable", 0)


@pytest.mark.parametrize(
    ("problem", "name"), [("newer-schema", "unavailable"), ("replay-failed", "failed")]
)
def test_a_process_that_is_too_old_is_told_as_over_http(problem: Any, name: str) -> None:
    command = ChannelCommand("m1", "SendMessage", "r", "ann", {"content": "hi"})
    told = channel_commands.to_channel_outcome(command, Failed(problem, "deploy"))
    assert (told.outcome, told.reason) == (name, "deploy")
