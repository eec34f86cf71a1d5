"""The table of agents: which there are, and where.

It imports none of them, since that would import Faust: the command line reads the roles' names
from here, too. Another agent is one more file and one more entry.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventfleet.workers.agent import DomainAgent

AGENTS = {
    "append": "eventfleet.workers.append_agent:AppendAgent",
    "command": "eventfleet.workers.command_agent:CommandAgent",
    "snapshot": "eventfleet.workers.snapshot_agent:SnapshotAgent",
    "relay": "eventfleet.workers.relay_agent:RelayAgent",
    "project": "eventfleet.workers.project_agent:ProjectAgent",
}
"""Where the class of each role's agent is."""

ROLES = tuple(AGENTS)


def agent_class(role: str) -> "type[DomainAgent]":
    """Import the agent class of a role."""
    agent: type[DomainAgent] = resolve_name(AGENTS[role])
    return agent
