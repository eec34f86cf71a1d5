"""The servers of a laptop: separate programs that end with the process that uses them."""

from eventfleet.workers.embedded.process import Kept, ProgramFailed, keep
from eventfleet.workers.embedded.servers import NoEmbedded, free_port, started

__all__ = ["Kept", "NoEmbedded", "ProgramFailed", "free_port", "keep", "started"]
