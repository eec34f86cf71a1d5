"""A right on Kafka is taken from a running worker: one role stops, is told, and comes back."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.changing_fleet import PARTITIONS, reasons, stopped
from tests.acceptance.fleet import Worker
from tests.acceptance.guarded_fleet import GuardedFleet, guarded
from tests.acceptance.kafka_by_hand import wait_for


@pytest.fixture
def fleet(
    mongo_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GuardedFleet]:
    with guarded(mongo_url, redis_url, tmp_path, monkeypatch) as fleet:
        yield fleet


def started(fleet: GuardedFleet) -> Worker:
    worker = fleet.start_worker(metadata_age=1)
    wait_for(worker.ready, "the worker")
    return worker


def found(worker: Worker, domain: str, role: str) -> str:
    """The reason for which a role is stopped; empty while it is not."""
    place = domain, role
    told = [r for r in reasons(worker, "stopped") if (r["domain"], r["role"]) == place]
    return str(told[0]["reason"]) if told else ""


def others_go_on(fleet: GuardedFleet, lacking: set[tuple[str, str]]) -> None:
    """Wait until a new event has passed each role that lacks no right."""
    for domain in ("notes", "letters"):
        if (domain, "append") in lacking:
            continue
        made = fleet.note(domain)
        for role, has_taken in (("relay", fleet.is_relayed), ("snapshot", fleet.is_snapshotted)):
            if (domain, role) not in lacking:
                wait_for(partial(has_taken, domain, made), f"{role} of {domain}")


def test_the_role_that_lacks_a_right_stops_alone_and_comes_back(fleet: GuardedFleet) -> None:
    worker = started(fleet)
    others_go_on(fleet, set())
    group, transactions = fleet.on_group("notes", "snapshot"), fleet.on_transactions
    cases = {
        ("letters", "relay"): fleet.on_topic("Write", "letters.out"),
        ("memos", "command"): fleet.on_topic("Write", "memos.replies"),
        ("notes", "snapshot"): group,
        ("letters", "snapshot"): transactions("letters", "snapshot"),
        ("notes", "append"): fleet.on_topic("Read", "notes.events"),
    }
    lacking: set[tuple[str, str]] = set()
    made = {domain: fleet.note(domain) for domain in ("notes", "letters")}
    for (domain, role), acl in cases.items():
        fleet.acls.withdraw(acl)
        lacking.add((domain, role))
        if (domain, role) == ("letters", "snapshot"):  # only a transaction shows it
            made = {domain: fleet.note(domain) for domain in ("notes", "letters")}
        wait_for(partial(found, worker, domain, role), f"{role} of {domain} to stop")
        assert stopped(worker) == lacking
        _, operation, _, name, _ = acl
        assert f"the user lacks the right {operation} on " in found(worker, domain, role)
        assert name in found(worker, domain, role)
        assert "grant it, and restart this process" in found(worker, domain, role)
        assert worker.metric("stopped", domain=domain, role=role) == PARTITIONS
        assert f"{role} of {domain} is stopped until the process is restarted" in worker.output()
        if (domain, role) == ("notes", "snapshot"):
            others_go_on(fleet, lacking)

    fleet.acls.allow(*cases.values())
    assert worker.stop() == 1
    assert "Traceback" not in worker.output()
    worker = started(fleet)
    fleet.command()
    wait_for(fleet.answers, "command of memos")
    for domain, aggregate_id in made.items():
        wait_for(partial(fleet.is_relayed, domain, aggregate_id), f"relay of {domain}")
        wait_for(partial(fleet.is_snapshotted, domain, aggregate_id), f"snapshot of {domain}")
    others_go_on(fleet, set())
