"""The table of agents, and what each agent of the fleet consumes, writes and makes."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from mode import Service

from eventfleet.domains.orders import orders
from eventfleet.roles.append import AppendRole
from eventfleet.roles.build_choice import BUILDS_INTERVAL
from eventfleet.roles.command import CommandRole
from eventfleet.roles.project import ProjectRole
from eventfleet.roles.relay import RelayRole
from eventfleet.roles.snapshot import SnapshotRole
from eventfleet.runtime.settings import Settings
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryLog, MemoryProducer, MemoryReader
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.stores.memory.views import MemoryViews
from eventfleet.workers.agent import DomainAgent, WorkerContext
from eventfleet.workers.agents import ROLES, agent_class
from eventfleet.workers.app_runner import SILENT_LOGGERS, role_app
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.worker_log import KafkaLog
from tests.unit.sync_domain import till

SOURCES = {
    "append": "events",
    "command": "commands",
    "snapshot": "stored",
    "relay": "stored",
    "project": "stored",
}
CLASSES: dict[str, type] = {
    "append": AppendRole,
    "command": CommandRole,
    "snapshot": SnapshotRole,
    "relay": RelayRole,
    "project": ProjectRole,
}


def agent_of(role: str, domain: Any = orders, transactional: bool = True) -> DomainAgent:
    deciders: dict[str, Any] = {domain.name: object()}
    settings, memory = Settings(group_prefix="unit"), MemoryLog()
    log = KafkaLog(Connection("nowhere:1"), transactional)
    context = WorkerContext(settings, log, MemoryProducer(memory), MemoryReader(memory), deciders)
    stores = DomainStores(MemoryEvents(), MemorySnapshots(), MemoryViews(), MemoryDeadLetters())
    return agent_class(role)(domain, stores, context)


async def never(next_offset: int) -> None:
    pytest.fail("nothing is to be acked")


async def test_each_tick_of_project_at_rest_looks_at_the_builds() -> None:
    """So a build that is begun is taken up within seconds: `eventfleet rebuild` waits for it."""
    settings, log = Settings(), KafkaLog(Connection("nowhere:1"))
    pauses = {
        role: role_app(settings, log, agent_of(role), Metrics()).owners.timeouts.rest_tick
        for role in ("project", "append")
    }
    assert BUILDS_INTERVAL.total_seconds() < pauses["project"] <= 3.0 < pauses["append"]


@pytest.mark.parametrize("role", ROLES)
async def test_an_agent_has_its_topic_its_group_and_its_role(role: str) -> None:
    agent = agent_of(role)
    assert (agent.role, agent.source) == (role, f"orders.{SOURCES[role]}")
    assert (str(agent), agent.group) == (f"{role} of orders", f"unit.orders.{role}")
    assert type(agent.make_role(0, never)) is CLASSES[role]


async def test_append_sweeps_in_a_synchronous_domain_only() -> None:
    for domain, sweeps in ((till, True), (orders, False)):
        append: Any = agent_of("append", domain).make_role(0, never)
        assert (append._sweep is not None) is sweeps


def test_an_agent_states_its_guarantee() -> None:
    exactly_once = agent_of("append").guarantee
    assert exactly_once.startswith("append of orders to orders.stored: delivery is exactly once")
    at_least_once = agent_of("relay", till, transactional=False).guarantee
    assert at_least_once.startswith("relay of till to no topic: delivery is at least once")


def test_the_table_of_agents_imports_no_faust() -> None:
    code = "import eventfleet.cli, sys; sys.exit('faust' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def services(kind: type) -> Iterator[type]:
    """All subclasses of a kind of service that are our own."""
    for each in kind.__subclasses__():
        if each.__module__.startswith("eventfleet."):
            yield each
        yield from services(each)


def test_faust_logs_of_our_classes_where_it_is_silent() -> None:
    """Else each error that ends one is a traceback beside our own report of it."""
    found = {each.__name__: each.logger.name for each in services(Service)}  # type: ignore[attr-defined]
    assert {"Consumer", "ConsumerThread", "RoleApp"} <= found.keys()
    silent = {name for name, log in found.items() if log.partition(".")[0] in SILENT_LOGGERS}
    assert silent == found.keys()
