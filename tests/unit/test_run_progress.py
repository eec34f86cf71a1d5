"""How `eventfleet run` follows the roles to the end of a log."""

import pytest

from eventfleet.cli import log_run
from eventfleet.cli.log_run import NoProgress, ProgressWatch
from eventfleet.states.view_reader import ViewNotBuilt, ViewReader
from eventfleet.stores.memory.log import MemoryReader
from eventfleet.topics.names import consumer_group
from eventfleet.topics.partitioner import partition_of
from tests.unit.view_fixture import ACCOUNTS, TICK, Opened, Servers, till

HERE = next(each for each in "abcd" if partition_of(each, 2) == 0)


@pytest.fixture
async def servers() -> Servers:
    """One partition has an event, which all roles have passed; the other has none and no owner."""
    servers = Servers(till(ACCOUNTS), partitions=2)
    await servers.append(HERE, Opened(owner="ann"))
    role = servers.role(0)
    await role.open()
    await role.tick()
    await servers.take(role)
    for name in ("snapshot", "relay", "project"):
        group = consumer_group("g", "till", name)
        servers.log.offsets[group, servers.topics.stored, 0] = 1
    return servers


async def test_a_run_ends_when_its_views_answer_not_when_their_group_has_passed_all(
    servers: Servers,
) -> None:
    watch = ProgressWatch(MemoryReader(servers.log), "g", servers.domain, servers.views)
    assert not await watch.poll()
    with pytest.raises(ViewNotBuilt, match="not built yet, but ready in 1 partitions; workers of"):
        await ViewReader(servers.domain, servers.views).find("accounts")
    other = servers.role(1)
    await other.open()
    servers.clock.time += TICK
    await other.tick()
    assert await watch.poll()
    assert (await ViewReader(servers.domain, servers.views).find("accounts")).rows


async def test_a_run_that_waits_for_a_view_in_vain_names_it(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = ProgressWatch(MemoryReader(servers.log), "g", servers.domain, servers.views)
    assert not await watch.poll()
    monkeypatch.setattr(log_run, "NO_PROGRESS_SECONDS", 0)
    with pytest.raises(NoProgress, match="view accounts is not built"):
        await watch.poll()
