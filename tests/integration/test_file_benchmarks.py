"""The benchmarks on a fleet's file: loops leave the rows of our roles; no command is lost."""

from importlib import import_module
from typing import Any

import apsw
import pytest
from msgspec.structs import replace

from benchmarks import data, role_setup, runner
from benchmarks.contenders.task import ContenderTask
from benchmarks.file_setup import make_settings
from benchmarks.scenario import NO_SERVERS, Scenario
from benchmarks.scenarios import file_lone
from eventfleet.runtime.file_backend import data_file

PARTITIONS = 2
SIZE = data.DatasetSize(1_600, 40, PARTITIONS)
"""Of 40 aggregates six have more than 200 events, so that there are snapshots."""

ROWS = {
    "events": """
SELECT aggregate_id, version, id, type, time, schema_version, data, attributes, discarded,
  partition, epoch, log_offset, unplaced, parked_epoch, parked_offset, reply_to, outbox
FROM events WHERE domain = :domain ORDER BY aggregate_id, version
""",
    "snapshots": """
SELECT aggregate_id, state_version, fingerprint, version, state
FROM snapshots WHERE domain = :domain ORDER BY aggregate_id, version
""",
    "offsets": """
SELECT partition, next_offset, generation FROM log_groups WHERE name = :group AND topic = :topic
""",
    "notes": """
SELECT key, json_each.value FROM registry, json_each(registry.value)
WHERE domain = :domain AND fact = 'notes' ORDER BY key
""",
    "log": """
SELECT substr(topic, length(:domain) + 1), partition, end_offset, key, headers, to_compact,
  CASE WHEN to_compact THEN json_remove(value, '$.taken_at') ELSE value END,
  CASE WHEN to_compact THEN NULL ELSE offset END
FROM log_partitions JOIN log_records ON partition_id = id
WHERE topic <> :domain || '.parked' ORDER BY topic, partition, key, offset
""",
}
"""All but times, which differ, and the topic to which append copies the store's registry."""


@pytest.mark.parametrize("role", ["append", "snapshot", "relay"])
async def test_a_loop_leaves_the_rows_of_our_role(
    role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role_setup, "PARTITIONS", PARTITIONS)
    monkeypatch.setattr(role_setup, "dataset_size", lambda: SIZE)
    scenario: Scenario = import_module(f"benchmarks.scenarios.file_{role}").SCENARIO
    ours, theirs = [await rows_after(scenario, each) for each in scenario.contenders.values()]
    written = {"append": "events", "snapshot": "snapshots", "relay": "log"}[role]
    assert ours[written]
    for name, rows in ours.items():
        assert rows == theirs[name], name


async def test_what_lone_and_many_callers_send_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_lone, "COMMANDS", 150)
    monkeypatch.setattr(file_lone, "LONE_COMMANDS", 10)
    task = await file_lone.prepare(NO_SERVERS, "", 0)
    result = await runner.run_contender("ours", file_lone.SCENARIO.contenders["eventfleet"], task)
    assert result.settings == {"journal": "WAL", "synchronous": "FULL"}
    assert {"p50", "asynchronous_ratio"} <= result.measures.keys()
    await file_lone.verify(NO_SERVERS, task)
    with pytest.raises(role_setup.VerificationFailed, match="300 events are stored, expected 301"):
        await file_lone.verify(NO_SERVERS, replace(task, records=task.records + 1))


async def rows_after(scenario: Scenario, module: str) -> dict[str, list[Any]]:
    """Run a contender on a new file, verify what it has stored, and return the rows."""
    task = await scenario.prepare(NO_SERVERS, module, 0)
    await runner.run_contender(module, module, task)
    assert scenario.verify
    await scenario.verify(NO_SERVERS, task)
    connection = apsw.Connection(str(data_file(make_settings(task))))
    try:
        return {name: read(connection, select, task) for name, select in ROWS.items()}
    finally:
        connection.close()


def read(connection: apsw.Connection, select: str, task: ContenderTask) -> list[Any]:
    """Select rows, in which the domain's name is that of every run."""
    names = {"domain": task.domain, "group": task.group, "topic": task.topic}
    return [
        tuple(
            each.replace(task.domain, "ledger") if isinstance(each, str) else each for each in row
        )
        for row in connection.execute(select, names)
    ]
