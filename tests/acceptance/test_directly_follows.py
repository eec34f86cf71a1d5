"""A real log by commands, with rules learnt from it, on real servers."""

import csv
import gzip
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from eventfleet.cli import main
from eventfleet.model.command_rules import START
from tests.acceptance.command_fleet import CommandFleet, write_csv
from tests.acceptance.fleet import ROOT

RECEIPT = ROOT.parent / "shared" / "data" / "receipt.csv.gz"
CASE, ACTIVITY = "case:concept:name", "concept:name"
COUNTS = ("offered", "accepted", "rejected", "repeated", "refused", "pending")
SEED = 20260105

Servers = tuple[str, str, str]
Rows = list[dict[str, str]]

pytestmark = pytest.mark.skipif(not RECEIPT.exists(), reason=f"there is no {RECEIPT.name}")


@pytest.fixture(scope="module")
def servers(kafka: str, mongo_url: str, redis_url: str) -> Servers:
    return kafka, mongo_url, redis_url


@pytest.fixture(scope="module")
def rows() -> Rows:
    with gzip.open(RECEIPT, "rt", newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


@pytest.fixture
def fleet(servers: Servers, tmp_path: Path) -> Iterator[CommandFleet]:
    """For process_log, with the rules that the log teaches."""
    rules = str(tmp_path / "rules.json")
    assert CliRunner().invoke(main, ["learn-rules", str(RECEIPT), "-o", rules]).exit_code == 0
    with CommandFleet(servers, tmp_path, "eventfleet.domains.process_log", RULES=rules) as fleet:
        fleet.start("append command", "append command snapshot relay")
        yield fleet


def load(fleet: CommandFleet, file: str) -> dict[str, int]:
    report = fleet.json("load", file, "--domain", "process_log", "--via", "commands")
    return {name: report[name] for name in COUNTS}


def test_the_log_that_the_rules_were_learnt_from_is_accepted_whole(fleet: CommandFleet) -> None:
    nothing = dict.fromkeys(COUNTS, 0)
    assert load(fleet, str(RECEIPT)) == nothing | {"offered": 8577, "accepted": 8577}
    fleet.settle()
    report = fleet.json("audit", "process_log")
    counts = ("stored", "aggregates", "snapshots", "relayed", "dead_letters", "superseded")
    assert [report[name] for name in counts] == [8577, 1434, 1298, 8577, 0, 0]
    assert report["violations"] == []
    told = [worker.metric("accepted_total", role="command") for worker in fleet.workers]
    assert sum(told) == 8577
    assert min(told) > 0, "both workers took commands"
    assert load(fleet, str(RECEIPT)) == nothing | {"offered": 8577, "repeated": 8577}
    fleet.settle()
    assert fleet.events.count_documents({}) == len(fleet.topic_events("stored")) == 8577


def shuffled(rows: Rows) -> Rows:
    """The rows of each case in another order, at the places that the case has in the file."""
    cases: dict[str, Rows] = defaultdict(list)
    for row in rows:
        cases[row[CASE]].append(row)
    random = Random(SEED)
    for case in cases.values():
        random.shuffle(case)
    return [cases[row[CASE]].pop() for row in rows]


def judged(rows: Rows, learnt: Rows) -> dict[str, list[tuple[str, str]]]:
    """Each row's verdict, one row after the other, by the pairs that stand in the learnt rows."""
    before: dict[str, str] = {}
    pairs: set[tuple[str, str]] = set()
    for row in learnt:
        pairs.add((before.get(row[CASE], START), row[ACTIVITY]))
        before[row[CASE]] = row[ACTIVITY]
    latest: dict[str, str] = {}
    verdicts: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        case, activity = row[CASE], row[ACTIVITY]
        accepted = (latest.get(case, START), activity) in pairs
        if accepted:
            latest[case] = activity
        verdicts[case].append((activity, "accepted" if accepted else "rejected"))
    return dict(verdicts)


def first_answers(answers: dict[str, list[tuple[str, str]]]) -> dict[str, list[tuple[str, str]]]:
    """Each command was sent once: where it is told that it was repeated, the first answer was lost
    with a worker that had to let its partition go before it could say so."""
    return {
        case: [(name, "accepted" if told == "repeated" else told) for name, told in judgements]
        for case, judgements in answers.items()
    }


def test_shuffled_rows_are_judged_as_one_after_the_other_would_be(
    fleet: CommandFleet, rows: Rows, tmp_path: Path
) -> None:
    mixed = shuffled(rows)
    verdicts = judged(mixed, rows)
    counted = Counter(verdict for case in verdicts.values() for _, verdict in case)
    assert min(counted["accepted"], counted["rejected"]) > 100
    report = load(fleet, write_csv(tmp_path / "mixed.csv", mixed))
    answers = fleet.replies_by_aggregate()
    assert first_answers(answers) == verdicts
    accepted = {"accepted": report["accepted"] + report["repeated"], "repeated": 0}
    assert report | accepted == dict.fromkeys(COUNTS, 0) | {"offered": 8577} | counted
    for name in ("rejected_total", "marker_lookups_total", "marker_round_seconds_count"):
        assert all(worker.metric(name, domain="process_log") > 0 for worker in fleet.workers)
    fleet.settle()
    stored = list(fleet.events.find().sort([("aggregate_id", 1), ("version", 1)]))
    found: dict[str, list[str]] = defaultdict(list)
    for event in stored:
        found[event["aggregate_id"]].append(event["type"])
    assert found == {
        case: [activity for activity, verdict in judgements if verdict == "accepted"]
        for case, judgements in verdicts.items()
        if any(verdict == "accepted" for _, verdict in judgements)
    }
    assert fleet.json("audit", "process_log")["violations"] == []


def test_events_cant_be_loaded_past_the_rules(fleet: CommandFleet) -> None:
    said = fleet.run("load", str(RECEIPT), "--domain", "process_log", status=1)
    assert said == ""
