"""The servers of a laptop: separate programs that end with the process that uses them."""

from eventfleet.embedded_servers.managed_process import Kept, ProgramFailed, keep
from eventfleet.embedded_servers.servers import NoEmbedded, free_port, started

__all__ = ["Kept", "NoEmbedded", "ProgramFailed", "free_port", "keep", "started"]
