"""Commands and queries over HTTP, arrow by arrow: the real process, on real servers
and on a file."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from joserfc.jwk import ECKey

from eventfleet.cli import main
from eventfleet.runtime.settings import PREFIX
from eventfleet.stores.mongo.documents import event_id as stored_event_id
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT, TIMEOUT_SECONDS
from tests.acceptance.fleet_kinds import KINDS, open_command_fleet, servers_only
from tests.acceptance.fleet_on_file import FileFleet
from tests.acceptance.http_service import HttpService, sent
from tests.acceptance.kafka_by_hand import wait_for
from tests.acceptance.logged_case import CASE, TYPES, snapshots, state
from tests.program import COMMAND
from tests.unit.http_fixture import AUDIENCE, token

DOMAINS = "eventfleet.domains.process_log,eventfleet.domains.orders,eventfleet.domains.bank"
PLACE = {"customer": "ann", "total": 1999, "currency": "EUR"}
AT = f"/domains/process_log/{CASE}"


@pytest.fixture(scope="module", params=KINDS)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CommandFleet]:
    folder = tmp_path_factory.mktemp("fleet")
    settings = {"DOMAINS": DOMAINS, **key_file(folder)}
    module = "eventfleet.domains.process_log"
    with open_command_fleet(request, folder, module, **settings) as fleet:
        fleet.start("append snapshot relay")
        yield fleet


def key_file(folder: Path) -> dict[str, str]:
    """The setting of a new key that verifies tokens."""
    (folder / "key").write_text("a secret of more than 32 characters\n")
    return {"TOKEN_KEY_FILE": str(folder / "key")}


@pytest.fixture(scope="module")
def service(fleet: CommandFleet) -> Iterator[HttpService]:
    with fleet.serving(HTTP_METRICS_PORT="0") as service:
        yield service


@pytest.fixture
def free(
    fleet: CommandFleet, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[CommandFleet]:
    """A fleet that a second process can serve: on a file it is another one."""
    if not fleet.is_one_process:
        yield fleet
        return
    with FileFleet(tmp_path, "eventfleet.domains.orders", **key_file(tmp_path)) as another:
        yield another


@pytest.fixture(scope="module")
def client(service: HttpService) -> Iterator[httpx.Client]:
    with service.client(token(scope="*:read *:write")) as client:
        yield client


@pytest.fixture(scope="module")
def case(fleet: CommandFleet, client: httpx.Client) -> CommandFleet:
    """Seven events of a case, its snapshot at the fifth."""
    for number, name in enumerate(TYPES, 1):
        wait = "?wait=snapshotted" if number in (5, 7) else ""
        found = sent(client, f"process_log/{CASE}/{name}{wait}", {"by": f"person {number}"})
        assert found.status_code == 202, found.text
        assert not wait or found.json()["stage"] == "snapshotted"
    assert [each["version"] for each in snapshots(fleet, CASE)] == [5]
    return fleet


@pytest.fixture
def restored(case: CommandFleet) -> Iterator[CommandFleet]:
    """The case, with its snapshots put back afterwards."""
    before = list(case.snapshots.find())
    yield case
    case.snapshots.delete_many({})
    case.snapshots.insert_many(before)


def get_json(client: httpx.Client, path: str) -> Any:
    found = client.get(path)
    assert found.status_code == 200, found.text
    return found.json()


def get_latest(fleet: CommandFleet, client: httpx.Client) -> Any:
    """Get the latest state, and wait until it is saved as a snapshot, behind the answer."""
    found = get_json(client, f"{AT}/state")
    wait_for(lambda: snapshots(fleet, CASE)[-1]["version"] == 7, "the snapshot")
    return found


# Get events


def test_provider_gets_events_from_service(case: CommandFleet, client: httpx.Client) -> None:
    found = get_json(client, f"{AT}/events")["events"]
    assert [event["version"] for event in found] == [1, 2, 3, 4, 5, 6, 7]
    assert [event["type"] for event in found] == TYPES
    assert [event["data"] for event in found] == [{"by": f"person {n}"} for n in range(1, 8)]
    some = get_json(client, f"{AT}/events?after=1&limit=2&types=check&types=file")
    assert [event["version"] for event in some["events"]] == [2, 3]
    assert some["next"] == 3
    lines = client.get(f"{AT}/events", headers={"accept": "application/x-ndjson"}).text
    assert [json.loads(line) for line in lines.splitlines()] == found


def test_service_queries_event_storage(case: CommandFleet, client: httpx.Client) -> None:
    """What is in the storage is the answer: an event put away there is not told."""
    last = case.events.find_one_and_delete({"aggregate_id": CASE, "version": 7})
    assert last
    try:
        assert [event["type"] for event in get_json(client, f"{AT}/events")["events"]] == TYPES[:6]
    finally:
        case.events.insert_one(last)


def test_event_storage_answers_with_events(case: CommandFleet, client: httpx.Client) -> None:
    stored = case.events.find({"aggregate_id": CASE}).sort("version", 1)
    found = get_json(client, f"{AT}/events")["events"]
    assert [event["id"] for event in found] == [stored_event_id(event["_id"]) for event in stored]


# Get snapshot


def test_provider_gets_snapshot_from_service(case: CommandFleet, client: httpx.Client) -> None:
    found = get_json(client, f"{AT}/snapshot")
    assert (found["aggregate_id"], found["version"], found["state"]) == (CASE, 5, state(5))


def test_service_queries_snapshot_storage(restored: CommandFleet, client: httpx.Client) -> None:
    """The snapshot is read, not made: without one the answer is that there is none."""
    restored.snapshots.delete_many({"aggregate_id": CASE})
    assert client.get(f"{AT}/snapshot").status_code == 404
    assert snapshots(restored, CASE) == []


def test_snapshot_storage_answers_with_snapshot(
    restored: CommandFleet, client: httpx.Client
) -> None:
    mark = {"$set": {"state.last": "as the storage has it"}}
    restored.snapshots.update_one({"aggregate_id": CASE}, mark)
    found = get_json(client, f"{AT}/snapshot")
    assert found["state"] == state(5) | {"last": "as the storage has it"}


# Get latest state


def test_provider_gets_latest_state_from_service(
    restored: CommandFleet, client: httpx.Client
) -> None:
    found = get_latest(restored, client)
    assert found == {"aggregate_id": CASE, "version": 7, "state": state(7)}


def test_service_queries_snapshot_storage_for_the_latest_state(
    restored: CommandFleet, client: httpx.Client
) -> None:
    """With the first events put away, only the snapshot tells of them."""
    gone = {"aggregate_id": CASE, "version": {"$lte": 5}}
    removed = list(restored.events.find(gone))
    restored.events.delete_many(gone)
    try:
        assert get_latest(restored, client)["state"] == state(7)
    finally:
        restored.events.insert_many(removed)


def test_snapshot_storage_answers_with_the_snapshot_to_replay_from(
    restored: CommandFleet, client: httpx.Client
) -> None:
    restored.snapshots.update_one({"aggregate_id": CASE}, {"$set": {"state.events": 105}})
    assert get_latest(restored, client)["state"] == state(7) | {"events": 107}


@servers_only("MongoDB's profiler")
def test_service_gets_events_after_snapshot(restored: CommandFleet, client: httpx.Client) -> None:
    with restored.profiled():
        get_latest(restored, client)
    asked = [query["filter"] for query in restored.queries("events") if "filter" in query]
    assert asked == [{"aggregate_id": CASE, "version": {"$gt": 5}}]


def test_event_storage_answers_with_the_events_after_the_snapshot(
    restored: CommandFleet, client: httpx.Client
) -> None:
    mark = {"$set": {"data.by": "as the storage has it"}}
    restored.events.update_one({"aggregate_id": CASE, "version": 7}, mark)
    try:
        found = get_latest(restored, client)
        assert found["state"]["attributes"] == {"by": "as the storage has it"}
    finally:
        back = {"$set": {"data.by": "person 7"}}
        restored.events.update_one({"aggregate_id": CASE, "version": 7}, back)


def test_service_replays_events(case: CommandFleet, client: httpx.Client) -> None:
    for version in (1, 4, 5, 6, 7):
        found = get_json(client, f"{AT}/state?version={version}")
        assert found == {"aggregate_id": CASE, "version": version, "state": state(version)}
    moment = get_json(client, f"{AT}/events?after=5&limit=1")["events"][0]["time"]
    assert get_json(client, f"{AT}/state?at={moment}")["version"] >= 6


# Commands


def test_a_command_is_accepted_once_and_told_again(client: httpx.Client) -> None:
    first = sent(client, "orders/o-1/Place?wait=appended", PLACE, Idempotency_Key="c")
    assert (first.status_code, first.json()["stage"]) == (202, "appended")
    again = sent(client, "orders/o-1/Place", PLACE, Idempotency_Key="c")
    assert (again.status_code, again.json()["outcome"]) == (200, "repeated")
    assert again.json()["event_id"] == first.json()["event_id"]
    (event,) = get_json(client, "/domains/orders/o-1/events")["events"]
    assert (event["id"], event["actor"]) == (first.json()["event_id"], "ann")
    other = sent(client, "orders/o-1/Place", PLACE | {"total": 1}, Idempotency_Key="c")
    assert (other.status_code, other.json()["type"].rpartition(":")[2]) == (422, "id-reused")
    forbidden = sent(client, "orders/o-1/Ship", {"carrier": "us"})
    assert (forbidden.status_code, forbidden.json()["type"].rpartition(":")[2]) == (409, "rejected")


def test_a_synchronous_command_is_readable_at_once(client: httpx.Client) -> None:
    opened = sent(client, "bank/a-1/Open", {"owner": "ann", "currency": "EUR"})
    assert opened.status_code == 200, opened.text
    for version in range(2, 12):
        done = sent(client, "bank/a-1/Deposit", {"amount": 5})
        assert (done.status_code, done.json()["version"]) == (200, version)
        assert get_json(client, "/domains/bank/a-1/state")["version"] == version
    poor = sent(client, "bank/a-1/Withdraw", {"amount": 10**9})
    assert (poor.status_code, poor.json()["type"].rpartition(":")[2]) == (409, "rejected")


def test_who_waits_reads_what_was_written(client: httpx.Client) -> None:
    for number in range(50):
        found = sent(client, f"orders/w-{number}/Place?wait=appended", PLACE)
        assert found.json()["stage"] == "appended"
        assert get_json(client, f"/domains/orders/w-{number}/state")["version"] == 1


# The command line over it


def test_the_command_line_asks_the_service_and_no_server(
    case: CommandFleet, service: HttpService, tmp_path: Path
) -> None:
    environment = case.environment | {
        "EVENTFLEET_SERVICE_URL": service.url,
        "EVENTFLEET_SERVICE_TOKEN": token(scope="*:read *:write"),
        "EVENTFLEET_DOMAINS": "no.such.module",
    }
    environment |= {PREFIX + name: value for name, value in case.nowhere.items()}

    def run(*arguments: str, status: int = 0) -> list[Any]:
        done = CliRunner(env=environment).invoke(main, [*arguments, "--json"])
        assert done.exit_code == status, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    of_case, odd = ("process_log", CASE), ("orders", "../a/b?c")
    assert [event["type"] for event in run("events", *of_case)] == TYPES
    some = run("events", *of_case, "--after", "1", "--limit", "2", "--types", "check")
    assert [event["version"] for event in some] == [2, 3]
    assert run("snapshot", *of_case)[0]["version"] >= 5
    assert run("state", *of_case)[0]["state"] == state(7)
    assert run("state", *of_case, "--version", "2")[0]["state"] == state(2)
    assert run("state", *of_case, "--at", "2999-01-01T00:00:00Z")[0]["version"] == 7
    assert run("diff", *of_case, "0", "2")[0]["second"] == 2
    body = json.dumps(PLACE)
    (done,) = run("send", *odd, "Place", body, "--wait", "appended", "--command-id", "c")
    assert (done["outcome"], done["stage"]) == ("accepted", "appended")
    (again,) = run("send", *odd, "Place", body, "--command-id", "c")
    assert again["outcome"] == "repeated"
    assert run("send", *odd, "Ship", '{"carrier": "us"}', status=3)[0]["outcome"] == "rejected"
    assert run("state", *odd)[0]["state"]["status"] == "placed"
    run("state", "orders", "nobody", status=1)
    run("send", "orders", "o", "Bribe", status=4)
    environment["EVENTFLEET_SERVICE_TOKEN"] = ""
    run("state", *odd, status=1)


# In an application of one's own


@servers_only("a service beside another one")
def test_the_example_serves_its_own_users(case: CommandFleet, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "PORT": port}
    with subprocess.Popen(
        [sys.executable, ROOT / "examples" / "own_application.py"],
        env=case.environment | paths,
        cwd=tmp_path,
    ) as process:
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_SECONDS
            ) as client:
                wait_for(lambda: answers(client), "the application")
                assert client.get("/events/domains").status_code == 401
                client.headers["x-user"] = "ann"
                found = client.post("/events/domains/orders/own%2F1/commands/Place", json=PLACE)
                assert found.status_code == 202
                assert client.get("/events/domains/bank/a/state").status_code == 403
        finally:
            process.terminate()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/").text == "our shop\n"
    except httpx.TransportError:
        return False


# The process


def test_without_a_token_nothing_is_readable(service: HttpService, case: CommandFleet) -> None:
    with service.client() as anyone:
        for path in ("/domains", f"{AT}/events", f"{AT}/state", "/metrics", "/openapi.json"):
            assert anyone.get(path).status_code == 401, path
        assert sent(anyone, "orders/o-9/Place", PLACE).status_code == 401
        assert anyone.get("/live").status_code == 200


def test_metrics_and_probes_have_a_port_of_their_own_without_tokens(
    service: HttpService, case: CommandFleet
) -> None:
    _, _, rest = service.said().partition("metrics, liveness and readiness: ")
    at = rest.split()[0]
    page = httpx.get(f"{at}/metrics").text
    assert "eventfleet_http_requests_limit 256.0\n" in page
    produced = 'eventfleet_server_call_seconds_count{operation="produce",server="kafka"}'
    assert (produced in page) is not case.is_one_process
    assert [httpx.get(f"{at}{path}").status_code for path in ("/live", "/domains")] == [200, 404]


def test_without_a_key_it_is_served_to_this_machine_alone(fleet: CommandFleet) -> None:
    open_to_all = {"EVENTFLEET_HTTP_HOST": "0.0.0.0", "EVENTFLEET_TOKEN_KEY_FILE": ""}
    done = subprocess.run(
        [*COMMAND, "serve"],
        env=fleet.environment | open_to_all,
        cwd=fleet.folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 1
    assert "EVENTFLEET_HTTP_HOST=0.0.0.0" in done.stderr
    assert "set EVENTFLEET_TOKEN_KEY_FILE" in done.stderr
    assert "Traceback" not in done.stderr


def test_keys_of_a_url_verify_tokens_that_are_bound_to_aggregates(
    free: CommandFleet, tmp_path: Path
) -> None:
    key = ECKey.generate_key("P-256", {"kid": "a"})
    (tmp_path / "keys").write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    provider = subprocess.Popen(
        [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        text=True,
    )
    assert provider.stdout
    port = provider.stdout.readline().partition(" port ")[2].split()[0]
    url = f"http://127.0.0.1:{port}/keys"
    settings = {"TOKEN_KEY_FILE": "", "TOKEN_KEY_URL": url, "TOKEN_AUDIENCE": AUDIENCE}
    bound = {"scope": "*:write *:read", "aggregate_ids": ["orders:mine"]}
    try:
        with (
            free.serving("orders", **settings) as service,
            service.client(token(key, "ES256", **bound)) as client,
        ):
            assert sent(client, "orders/mine/Place?wait=appended", PLACE).status_code == 202
            assert client.get("/domains/orders/mine/state").status_code == 200
            assert sent(client, "orders/other/Place", PLACE).status_code == 403
            assert client.get("/domains/orders/feed").status_code == 403
    finally:
        provider.kill()
        provider.wait(TIMEOUT_SECONDS)
    late = settings | {"START_TIMEOUT": "1", "HTTP_PORT": "0"}
    done = subprocess.run(
        [*COMMAND, "serve", "orders"],
        env=free.environment | {PREFIX + name: value for name, value in late.items()},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 1
    assert f"{url} has no valid key set for tokens: Cannot connect" in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_finishes_what_is_in_hand(free: CommandFleet) -> None:
    """A request whose body is still on its way."""
    body, allowed = json.dumps(PLACE).encode(), token(scope="*:write *:read")
    head = (
        "POST /domains/orders/last/commands/Place HTTP/1.1\r\nHost: here\r\n"
        f"Authorization: Bearer {allowed}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with free.serving("orders") as service:
        address = httpx.URL(service.url)
        with socket.create_connection((address.host, address.port), TIMEOUT_SECONDS) as connection:
            connection.sendall(head + body[:5])
            with service.client(allowed) as client:
                in_hand = "eventfleet_http_requests_in_hand 1.0"
                wait_for(lambda: in_hand in client.get("/metrics").text, "the request")
            service.process.terminate()
            wait_for(lambda: not listens(address), "the service to take no more")
            connection.sendall(body[5:])
            assert connection.recv(4096).startswith(b"HTTP/1.1 202 ")
        assert service.process.wait(TIMEOUT_SECONDS) == 0
    assert "Traceback" not in service.said()


def listens(address: httpx.URL) -> bool:
    try:
        socket.create_connection((address.host, address.port), TIMEOUT_SECONDS).close()
    except ConnectionError:
        return False
    return True
