"""The sample's orders; with SECONDS_PER_RECORD in the environment, their workers are slowed down.

On a machine with few cores a second worker does not double the throughput of the first: they share
the cores. A worker that waits a while for each of its records has a capacity of its own.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from eventfleet.domains.orders import orders
from eventfleet.roles.role import ChunkReport, Role
from eventfleet.topics.record import LogRecord
from eventfleet.workers.agents import ROLES, agent_class

__all__ = ["orders"]

SECONDS_PER_RECORD = "SECONDS_PER_RECORD"


class ThrottledRole:
    """A role that waits a while for each record; the roles of one process take turns."""

    def __init__(self, role: Role, seconds: float, turn: asyncio.Lock) -> None:
        self._role, self._seconds, self._turn = role, seconds, turn

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        async with self._turn:
            await asyncio.sleep(len(records) * self._seconds)
            return await self._role.process(records, next_offset)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._role, name)


def throttle_workers(seconds: float) -> None:
    """Make the agents of this process give out throttled roles."""
    turn = asyncio.Lock()
    for role in ROLES:
        agent: Any = agent_class(role)
        agent.make_role = _throttled(agent.make_role, seconds, turn)


def _throttled(make_role: Any, seconds: float, turn: asyncio.Lock) -> Any:
    def make_throttled(agent: Any, partition: int, ack: Any) -> ThrottledRole:
        return ThrottledRole(make_role(agent, partition, ack), seconds, turn)

    return make_throttled


if seconds := os.environ.get(SECONDS_PER_RECORD):
    throttle_workers(float(seconds))
