"""The servers of a laptop: separate programs that end with the process that uses them."""

from workers.embedded.process import Kept, StartFailed, keep
from workers.embedded.servers import NoEmbedded, started

__all__ = ["Kept", "NoEmbedded", "StartFailed", "keep", "started"]
