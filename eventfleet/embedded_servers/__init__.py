"""The servers of a laptop: separate programs that end with the process that uses them."""

from eventfleet.embedded_servers.managed_process import (
    ManagedProcess,
    ProgramFailed,
    start_process,
    tail,
)
from eventfleet.embedded_servers.servers import EmbeddedServerMissing, free_port, start_servers

__all__ = [
    "EmbeddedServerMissing",
    "ManagedProcess",
    "ProgramFailed",
    "free_port",
    "start_process",
    "start_servers",
    "tail",
]
