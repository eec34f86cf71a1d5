"""Markers and a real Redis: what it must be, how it is reached, and what happens when it goes."""

import asyncio
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from eventfleet.runtime import connections
from eventfleet.runtime.errors import Unreachable
from eventfleet.runtime.settings import Settings
from eventfleet.stores.contracts import (
    Claim,
    Incarnation,
    MarkOwner,
    MarkRequest,
    MarkResult,
    MarkStatus,
    Note,
    StoredHead,
)
from eventfleet.stores.errors import AccessRefused, HungUp, Misconfigured, ServerUnavailable
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.redis import RedisChannels, RedisMarkers
from eventfleet.stores.redis.scripts import INCARNATION
from eventfleet.stores.redis.session import MAX_SESSIONS, Session
from tests.conftest import running
from tests.servers.redis import Redis
from tests.servers.server import free_port

TERMS = MarkerTimeouts(expiry=600, lease=600, memory=600)
TIMEOUT = 10.0
PATIENCE = 200


def started(*options: str) -> Iterator[Redis]:
    with running(lambda: Redis(*options)) as server:
        yield server


@pytest.fixture
def redis() -> Iterator[Redis]:
    yield from started()


@pytest.fixture
async def markers(redis: Redis) -> AsyncIterator[RedisMarkers]:
    made = RedisMarkers(redis.url, "t", TERMS, timeout=TIMEOUT)
    yield made
    await made.close()


def mark(event_id: str, incarnation: Incarnation, aggregate_id: str = "a") -> MarkRequest:
    basis = StoredHead("Placed", f"{aggregate_id}0")
    return MarkRequest(aggregate_id, event_id, "Paid", event_id.encode(), None, incarnation, basis)


async def noted(markers: RedisMarkers, event_id: str, aggregate_id: str = "a") -> MarkResult:
    (marked,) = await markers.mark([mark(event_id, await markers.incarnation(), aggregate_id)])
    return marked


async def recovered(markers: RedisMarkers) -> Incarnation:
    for _ in range(PATIENCE):
        try:
            return await markers.incarnation()
        except ServerUnavailable:
            await asyncio.sleep(0.05)
    raise AssertionError("the client does not recover")


# What it must be


async def test_a_server_that_never_evicts_is_fit(markers: RedisMarkers) -> None:
    await markers.prepare()


async def test_a_server_that_may_evict_is_refused() -> None:
    for redis in started("--maxmemory-policy", "allkeys-lru"):
        markers = RedisMarkers(redis.url, "t", TERMS, timeout=TIMEOUT)
        with pytest.raises(Misconfigured, match=r"allkeys-lru.*noeviction"):
            await markers.prepare()
        await markers.close()


@pytest.mark.parametrize("url", ["http://host", "redis://h:6379/0?no_such_option=1", "redis://h:x"])
def test_a_url_that_can_not_be_used_is_refused_at_once(url: str) -> None:
    with pytest.raises(Misconfigured, match="URL"):
        RedisMarkers(url, "t", TERMS, timeout=TIMEOUT)


async def test_a_full_server_is_unavailable(redis: Redis, markers: RedisMarkers) -> None:
    incarnation = await markers.incarnation()
    redis.execute("CONFIG SET maxmemory 1")
    with pytest.raises(ServerUnavailable, match="maxmemory"):
        await markers.mark([mark("e1", incarnation)])
    assert redis.execute("DBSIZE") == ":1"
    redis.execute("CONFIG SET maxmemory 0")
    assert (await noted(markers, "e1")).status is MarkStatus.OK


async def test_a_replica_is_unavailable(redis: Redis, markers: RedisMarkers) -> None:
    incarnation = await markers.incarnation()
    redis.execute(f"REPLICAOF 127.0.0.1 {free_port()}")
    with pytest.raises(ServerUnavailable):
        await markers.mark([mark("e1", incarnation)])


async def test_keys_of_another_kind_are_an_operators_matter(
    redis: Redis, markers: RedisMarkers
) -> None:
    redis.execute("SET marker:t:a text")
    with pytest.raises(Misconfigured, match="WRONGTYPE"):
        await noted(markers, "e1")
    assert (await noted(markers, "b1", "b")).status is MarkStatus.OK


async def test_only_a_marker_with_a_note_the_life_and_owners_have_no_expiry(
    redis: Redis, markers: RedisMarkers
) -> None:
    keys = "life", "owner:t:0", "marker:t:a", "done:t:e1"
    incarnation = await markers.incarnation()
    await markers.note_owner(MarkOwner(0, "one"), incarnation)
    marked = await noted(markers, "e1")
    lasting = [int(redis.execute(f"PTTL {key}")[1:]) < 0 for key in keys]
    assert lasting == [True, True, True, False]
    await markers.confirm([Note("a", "e1", marked.prev)], incarnation)
    lasting = [int(redis.execute(f"PTTL {key}")[1:]) < 0 for key in keys]
    assert lasting == [True, True, False, False]
    assert [redis.execute(f"EXISTS {key}") for key in keys] == [":1"] * 4


async def test_times_are_compared_to_the_microsecond(redis: Redis, markers: RedisMarkers) -> None:
    incarnation = await markers.incarnation()
    for n in range(50):
        await markers.mark([mark(f"{n}", incarnation, f"a{n}")])
        born = float(redis.execute(f"HGET marker:t:a{n} born"))
        looks = [mark(f"{n}", incarnation._replace(now=born + late), f"a{n}") for late in (0, 1e-6)]
        assert [m.status for m in await markers.mark(looks)] == [MarkStatus.AGAIN, MarkStatus.MINE]


# How it is reached


async def test_a_password_is_needed_and_not_told() -> None:
    for redis in started("--requirepass", "hunter2"):
        for url, fits in [
            (f"redis://:hunter2@{redis.address}/0", True),
            (f"redis://default:hunter2@{redis.address}/3", True),
            (f"redis://:wrong-one@{redis.address}/0", False),
            (redis.url, False),
        ]:
            markers = RedisMarkers(url, "t", TERMS, timeout=TIMEOUT)
            if fits:
                await markers.prepare()
                assert (await noted(markers, "e1")).status is MarkStatus.OK
            else:
                with pytest.raises(Misconfigured) as raised:
                    await markers.prepare()
                assert "wrong-one" not in str(raised.value)
            await markers.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A folder with a certificate for 127.0.0.1, signed by itself."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    name = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", "key.pem", "-out", "ca.pem")
    made = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1")
    command = (*made, *name, *files)
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    return tmp_path


async def test_tls_is_spoken_and_the_server_is_known_by_its_certificate(certificate: Path) -> None:
    port = free_port()
    ca, key = str(certificate / "ca.pem"), str(certificate / "key.pem")
    tls = ["--tls-port", str(port), "--tls-cert-file", ca, "--tls-key-file", key]
    for _ in started(*tls, "--tls-ca-cert-file", ca, "--tls-auth-clients", "no"):
        url = f"rediss://127.0.0.1:{port}/0"
        markers = RedisMarkers(f"{url}?ssl_ca_certs={ca}", "t", TERMS, timeout=TIMEOUT)
        assert (await noted(markers, "e1")).status is MarkStatus.OK
        await markers.close()
        stranger = RedisMarkers(url, "t", TERMS, timeout=TIMEOUT)
        with pytest.raises(AccessRefused, match="certificate is not accepted"):
            await stranger.incarnation()
        plain = RedisMarkers(f"redis://127.0.0.1:{port}/0", "t", TERMS, timeout=TIMEOUT)
        with pytest.raises(HungUp):
            await plain.incarnation()


# When it goes


async def test_an_absent_server_is_unavailable() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    markers = RedisMarkers(url, "t", TERMS, timeout=TIMEOUT)
    with pytest.raises(ServerUnavailable):
        await markers.incarnation()
    await markers.close()


async def test_an_absent_server_is_named_with_what_to_do() -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = Settings(redis_url=f"redis://:hunter2@{address}/0")
    with pytest.raises(Unreachable) as raised:
        async with connections.markers(settings, "t"):
            pass
    message = str(raised.value)
    assert message.startswith(f"Redis does not answer at {address} (")
    assert "EVENTFLEET_REDIS_URL" in message
    assert "hunter2" not in message


async def test_a_session_never_goes_on_with_another_process(redis: Redis) -> None:
    session = Session(redis.url)
    await session.connect()
    assert await session.is_usable()
    redis.restart(redis.dump())
    for _ in range(3):
        with pytest.raises(Exception, match=r"(?i)connection"):
            await session.run_script(
                INCARNATION, lambda run: [INCARNATION.template([b"life"], [run, b"x"]) % ()], 1
            )
        assert not await session.is_usable()
    assert redis.execute("EXISTS life") == ":0"
    await session.disconnect()


async def test_a_client_at_rest_goes_on_with_another_process(
    redis: Redis, markers: RedisMarkers
) -> None:
    before = await markers.incarnation()
    await asyncio.to_thread(redis.restart)
    assert (await markers.incarnation()).id != before.id


async def test_a_server_that_hangs_is_unavailable_in_time(redis: Redis) -> None:
    markers = RedisMarkers(redis.url, "t", TERMS, timeout=0.3)
    incarnation = await markers.incarnation()
    with frozen(redis):
        for _ in range(2):
            with pytest.raises(ServerUnavailable, match=r"within 0\.3 s"):
                await markers.mark([mark("e1", incarnation)])
    await recovered(markers)
    assert (await noted(markers, "e1")).status in (MarkStatus.OK, MarkStatus.MINE)
    await markers.close()


@contextmanager
def frozen(redis: Redis) -> Iterator[None]:
    """The server stands still for the length of the block."""
    redis.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        redis.signal(signal.SIGCONT)


async def test_after_a_cancelled_call_answers_still_go_with_their_questions(
    redis: Redis, markers: RedisMarkers
) -> None:
    incarnation = await markers.incarnation()
    with frozen(redis):
        calls = [
            asyncio.create_task(markers.mark([mark(f"{n}", incarnation, f"a{n}")]))
            for n in range(MAX_SESSIONS * 2)
        ]
        await asyncio.sleep(0.1)
        for call in calls[::2]:
            call.cancel()
        await asyncio.wait(calls[::2])
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in done[::2]] == [asyncio.CancelledError] * MAX_SESSIONS
    for number, answer in enumerate(done):
        if isinstance(answer, list):
            assert answer[0].event_id == f"{number}"
    for n in range(MAX_SESSIONS * 2):
        marked = await noted(markers, f"{n}", f"a{n}")
        assert marked.status in (MarkStatus.OK, MarkStatus.MINE)
        assert (marked.event_id, marked.prev) == (f"{n}", f"a{n}0")


async def test_flushed_scripts_are_loaded_again(redis: Redis, markers: RedisMarkers) -> None:
    incarnation = await markers.incarnation()
    redis.execute("SCRIPT FLUSH")
    marked = await markers.mark([mark(f"e{n}", incarnation, f"a{n}") for n in range(5)])
    assert [m.status for m in marked] == [MarkStatus.OK] * 5
    redis.execute("SCRIPT FLUSH")
    notes = [Note(f"a{n}", f"e{n}", f"a{n}0") for n in range(5)]
    assert await markers.confirm(notes, incarnation) == [True] * 5


async def test_a_server_lost_within_a_call_leaves_the_client_fit(
    redis: Redis, markers: RedisMarkers
) -> None:
    for _ in range(3):
        incarnation = await recovered(markers)
        work = [
            asyncio.create_task(
                markers.mark([mark(f"e{n}", incarnation, f"a{n}") for n in range(500)])
            )
            for _ in range(MAX_SESSIONS * 3)
        ]
        await asyncio.sleep(0)
        await asyncio.to_thread(redis.restart)
        for answer in await asyncio.gather(*work, return_exceptions=True):
            assert isinstance(answer, list | ServerUnavailable)
    await recovered(markers)
    assert (await noted(markers, "e1")).status is MarkStatus.OK


async def test_there_are_no_more_connections_than_sessions(
    redis: Redis, markers: RedisMarkers
) -> None:
    await asyncio.gather(*(markers.incarnation() for _ in range(50)))
    with socket.create_connection(("127.0.0.1", redis.port), timeout=5) as talk:
        talk.sendall(b"INFO clients\r\n")
        reply = talk.recv(65536).decode()
    (count,) = [line for line in reply.splitlines() if line.startswith("connected_clients:")]
    assert int(count.partition(":")[2]) <= MAX_SESSIONS + 1


# Several fleets


@pytest.mark.parametrize("prefix", ["", "blue."])
async def test_all_keys_begin_with_the_prefix(redis: Redis, prefix: str) -> None:
    markers = RedisMarkers(redis.url, "t", TERMS, timeout=TIMEOUT, prefix=prefix)
    channels = RedisChannels(redis.url, timeout=TIMEOUT, prefix=prefix)
    marked = await noted(markers, "e1")
    incarnation = await markers.incarnation()
    await markers.confirm([Note("a", "e1", marked.prev)], incarnation)
    await markers.note_owner(MarkOwner(11, "one"), incarnation)
    life = await channels.incarnation()
    await channels.claim([Claim("claims.c", life.id, life.now + 60)])
    await markers.check_writable()
    names = "life", "marker:t:a", "done:t:e1", "done:t:readiness", "owner:t:11", "claims.c"
    assert [redis.execute(f"EXISTS {prefix}{name}") for name in names] == [":1"] * len(names)
    assert redis.execute("DBSIZE") == f":{len(names)}"
    for each in (markers, channels):
        await each.close()


async def test_fleets_with_other_prefixes_have_markers_and_claims_of_their_own(
    redis: Redis,
) -> None:
    for prefix in ("", "blue.", "green."):
        markers = RedisMarkers(redis.url, "t", TERMS, timeout=TIMEOUT, prefix=prefix)
        assert not await markers.read(["a"])
        assert (await noted(markers, "e1")).status is MarkStatus.OK
        assert (await markers.read(["a"]))["a"].type == "Paid"
        channels = RedisChannels(redis.url, timeout=TIMEOUT, prefix=prefix)
        life = await channels.incarnation()
        assert life.id == (await markers.incarnation()).id
        [left] = await channels.claim([Claim("c", life.id, life.now + 60)])
        assert left > 0
        for each in (markers, channels):
            await each.close()


@pytest.mark.parametrize("database", [0, 3])
async def test_fleets_with_other_prefixes_do_not_hear_each_other(
    redis: Redis, database: int
) -> None:
    url = f"{redis.url.rpartition('/')[0]}/{database}"
    fleets = {
        prefix: RedisChannels(url, timeout=TIMEOUT, prefix=prefix)
        for prefix in ("", "blue.", "green.")
    }
    async with AsyncExitStack() as stack:
        heard = {
            prefix: await stack.enter_async_context(channels.subscribe("c"))
            for prefix, channels in fleets.items()
        }
        for prefix, channels in fleets.items():
            await channels.publish({"c": [prefix.encode()]})
        for prefix, messages in heard.items():
            async with asyncio.timeout(TIMEOUT):
                assert await anext(messages) == [prefix.encode()]
    for channels in fleets.values():
        await channels.close()
