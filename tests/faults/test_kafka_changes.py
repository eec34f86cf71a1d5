"""Prints how soon each change of Kafka is told at the default age of metadata: the bar is 40 s."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.admin import NewPartitions

from tests.acceptance.changing_fleet import reasons
from tests.acceptance.fleet import Worker
from tests.acceptance.guarded_fleet import GuardedFleet, guarded
from tests.acceptance.kafka_by_hand import wait_for

pytestmark = pytest.mark.faults
AGE_SECONDS = 30
END = -1


class Stopwatch:
    """Makes changes, and notes the seconds until the worker's readiness tells each."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._waiting: dict[str, tuple[str, float]] = {}
        self.seconds: dict[str, float] = {}

    def change(self, name: str, sentence: str, make: Callable[[], object]) -> None:
        """Make a change that is told by a sentence."""
        self._waiting[name] = sentence, time.monotonic()
        make()

    def all_told(self) -> bool:
        """Look at what is told."""
        told = [r["reason"] for kind in ("topic", "stopped") for r in reasons(self._worker, kind)]
        for name, (sentence, at) in list(self._waiting.items()):
            if any(sentence in reason for reason in told):
                self.seconds[name] = time.monotonic() - at
                del self._waiting[name]
        return not self._waiting


def grow(fleet: GuardedFleet) -> None:
    wanted = {"letters.events": NewPartitions(4)}
    fleet.kafka._with_admin(lambda admin: admin.create_partitions(wanted))


def remake(fleet: GuardedFleet) -> None:
    fleet.kafka.delete(["memos.stored"])
    assert fleet.invoke("topics", "create", "memos").exit_code == 0


def test_each_change_of_kafka_is_told(
    mongo_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with guarded(mongo_url, redis_url, tmp_path, monkeypatch) as fleet:
        worker = fleet.start_worker(AGE_SECONDS)
        wait_for(worker.ready, "the worker")
        fleet.goes_on("notes")
        fleet.goes_on("letters")
        fleet.command()
        wait_for(fleet.answers, "command of memos")
        assert worker.stop() == 0
        fleet.command()
        fleet.kafka.truncate("memos.commands", {0: END, 1: END})
        worker = fleet.start_worker(AGE_SECONDS)
        watch, withdraw = Stopwatch(worker), fleet.acls.withdraw
        watch.change("records removed", "command of memos, partition", lambda: None)
        wait_for(lambda: worker.get("/ready")[0], "the worker to answer")
        time.sleep(2)  # the first look is over
        watch.change(
            "Write on transactional ids",
            "notes.snapshot-notes.stored-",
            lambda: (withdraw(fleet.on_transactions("notes", "snapshot")), fleet.note("notes")),
        )
        watch.change("partitions added", "topic letters.events has 4", lambda: grow(fleet))
        watch.change(
            "topic deleted",
            "topic letters.snapshots was deleted",
            lambda: fleet.kafka.delete(["letters.snapshots"]),
        )
        watch.change("topic made anew", "memos.stored was deleted and made", lambda: remake(fleet))
        watch.change(
            "route's topic missing",
            "topic notes.out was deleted",
            lambda: fleet.kafka.delete(["notes.out"]),
        )
        for name, sentence, acl in (
            (
                "Read on a source",
                "Read on topic notes.events",
                fleet.on_topic("Read", "notes.events"),
            ),
            (
                "Write on a target",
                "Write on topic letters.stored",
                fleet.on_topic("Write", "letters.stored"),
            ),
            ("Read on a group", "letters.relay (Group", fleet.on_group("letters", "relay")),
        ):
            watch.change(name, sentence, lambda acl=acl: withdraw(acl))
        wait_for(watch.all_told, "all to be told")
        for name, seconds in watch.seconds.items():
            print(f"{name}: told after {seconds:.1f} s")
