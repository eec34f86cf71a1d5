"""Notices, in memory."""

from eventfleet.stores.contracts import Notice
from eventfleet.stores.memory.broadcast import Broadcast


class MemoryNotices(Broadcast[Notice]):
    """Notices: the server and any number of clients."""
