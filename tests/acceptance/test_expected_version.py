"""Expected versions on real servers: each face of the guide, block by block, and many writers."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventfleet.commands import Accepted, event_service
from eventfleet.domains.bank import bank
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT, TIMEOUT_SECONDS
from tests.acceptance.http_service import HttpService, sent, serving
from tests.acceptance.kafka_by_hand import NewRecord, wait_for

GUIDE = (ROOT / "docs" / "guides" / "optimistic-concurrency.md").read_text()
OPEN = {"owner": "ann", "currency": "EUR"}
WRITERS, ROUNDS = 4, 5


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


COMMANDS, REQUESTS = blocks("sh")
PROBLEM, RECORD, REPLY = map(json.loads, blocks("json"))
PROGRAM, _ = blocks("python")


@pytest.fixture(scope="module")
def fleet(
    kafka: str, mongo_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CommandFleet]:
    folder, servers = tmp_path_factory.mktemp("fleet"), (kafka, mongo_url, redis_url)
    with CommandFleet(servers, folder, "eventfleet.domains.bank") as fleet:
        fleet.start("append command")
        yield fleet


@pytest.fixture(scope="module")
def service(fleet: CommandFleet) -> Iterator[HttpService]:
    with serving(fleet.environment, fleet.folder) as service:
        yield service


def run(fleet: CommandFleet, line: str, **variables: str) -> tuple[int, str]:
    """The status and the output of a line of the guide."""
    scripts = sysconfig.get_path("scripts")
    paths = {
        "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }
    done = subprocess.run(
        ["bash", "-c", line],
        env=fleet.environment | paths | variables,
        cwd=fleet.folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def walked(fleet: CommandFleet) -> list[tuple[int, str]]:
    """What the guide's lines on the command line have done, at the servers themselves."""
    return [run(fleet, line) for line in COMMANDS.splitlines()]


def test_the_command_line_sends_on_the_version_that_it_has_read(
    walked: list[tuple[int, str]],
) -> None:
    assert [status for status, _ in walked] == [0, 0, 0, 7]
    opened, state, deposited, refused = (said for _, said in walked)
    assert re.match(r"accepted: .*, version 1\n", opened)
    assert "version 1" in state
    assert re.match(r"accepted: .*, version 2\n", deposited)
    [promised] = re.findall(r"ends with status 7: `(.*)`", GUIDE)
    assert refused.splitlines()[0] == promised
    assert "--expected-version 2" in refused


@pytest.fixture(scope="module")
def requested(fleet: CommandFleet, service: HttpService, walked: Any) -> list[str]:
    """The answers to the guide's requests."""
    at, *requests = REQUESTS.replace("http://127.0.0.1:8080", service.url).splitlines()
    return [run(fleet, f"{at}\n{line.replace('curl', 'curl -sS')}")[1] for line in requests]


def test_http_takes_the_etag_back_as_if_match(requested: list[str]) -> None:
    state, deposited, refused = requested
    assert 'etag: "2"' in state.lower()
    assert '"version":3' in deposited
    assert refused.startswith("HTTP/1.1 412 ")
    assert 'etag: "3"' in refused.lower()
    problem = json.loads(refused.split("\n\n")[1])
    assert {name: problem[name] for name in PROBLEM} == PROBLEM
    assert problem.keys() - PROBLEM.keys() == {"detail", "command_id"}


def test_the_command_line_over_http_has_the_same_answer(
    fleet: CommandFleet, service: HttpService, requested: Any
) -> None:
    send = "eventfleet send bank a-1 Deposit '{\"amount\": 5}' --json --expected-version"
    for expected, status, version in (("2", 7, 3), ("0", 7, 3)):
        found = run(fleet, f"{send} {expected}", EVENTFLEET_SERVICE_URL=service.url)
        assert found[0] == status, found[1]
        answer = json.loads(found[1])
        assert (answer["outcome"], answer["version"]) == ("conflict", version)


def test_a_record_on_the_topic_is_answered_as_the_guide_says(
    fleet: CommandFleet, requested: Any
) -> None:
    accepted = RECORD | {"id": "other", "subject": "by-topic", "type": "Open", "data": OPEN}
    records = [RECORD, accepted | {"expectedversion": 0}]
    fleet.kafka.produce(
        NewRecord("bank.commands", each["subject"].encode(), json.dumps(each).encode())
        for each in records
    )
    wait_for(lambda: len(fleet.replies()) == 2, "the replies")
    replies: dict[str, Any] = {each["command_id"]: each for each in fleet.replies()}
    assert replies["deposit-7"] == REPLY
    assert (replies["other"]["outcome"], replies["other"]["version"]) == ("accepted", 1)
    assert len(list(fleet.events.find({"aggregate_id": "a-1"}))) == 3


def test_the_guides_program_runs(fleet: CommandFleet, requested: Any) -> None:
    (fleet.folder / "program.py").write_text(PROGRAM)
    status, said = run(fleet, f"{shlex.quote(sys.executable)} program.py")
    assert (status, said[:9]) == (0, "Accepted("), said


def test_an_accepted_command_is_repeated_though_the_version_has_moved_on(
    service: HttpService,
) -> None:
    with service.client() as client:
        first = sent(client, "bank/r/Open", OPEN, If_None_Match="*", Idempotency_Key="c")
        sent(client, "bank/r/Deposit", {"amount": 5}, If_Match="*")
        again = sent(client, "bank/r/Open", OPEN, If_None_Match="*", Idempotency_Key="c")
        other = sent(client, "bank/r/Open", OPEN, If_None_Match="*")
        assert (first.status_code, again.status_code, other.status_code) == (200, 200, 412)
        assert (again.json()["outcome"], again.json()["version"]) == ("repeated", 1)
        assert (other.json()["version"], other.headers["etag"]) == (2, '"2"')
        unknown = sent(client, "bank/nobody/Deposit", {"amount": 5}, If_Match="*")
        assert (unknown.status_code, unknown.json()["version"]) == (412, 0)


async def test_each_of_many_writers_decides_on_the_state_that_its_event_follows(
    fleet: CommandFleet,
) -> None:
    """Writers at two services read, compute and send; each interest is of the balance before."""
    program: dict[str, Any] = {"__name__": "program"}
    exec(PROGRAM, program)
    program["MAX_DECISIONS"] = 1_000
    add_interest = program["add_interest"]
    async with (
        event_service(fleet.settings, bank) as one,
        event_service(fleet.settings, bank) as other,
    ):
        await one.send("shared", "Open", OPEN, expected_version=0)
        await one.send("shared", "Deposit", {"amount": 1_000}, expected_version=1)

        async def write(number: int) -> None:
            for _ in range(ROUNDS):
                outcome = await add_interest((one, other)[number % 2], "shared")
                assert isinstance(outcome, Accepted)

        await asyncio.gather(*map(write, range(WRITERS)))
        amounts = [e.data["amount"] async for e in one.events("shared", types=["Deposited"])]
    assert len(amounts) == 1 + WRITERS * ROUNDS
    balance = amounts[0]
    for amount in amounts[1:]:
        assert amount == balance // 100 + 1
        balance += amount


def test_all_is_as_it_should_be(fleet: CommandFleet, tmp_path: Path) -> None:
    fleet.settle("append")
    report = fleet.json("audit", "bank")
    assert (report["clean"], report["dead_letters"]) == (True, 0)
