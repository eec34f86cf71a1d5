"""The stores of a domain in memory, for tests of code over repositories and queries."""

from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.snapshots import MemorySnapshots


def memory_stores() -> DomainStores:
    """Return empty event and snapshot stores in memory."""
    return DomainStores(MemoryEvents(), MemorySnapshots(), dead_letters=MemoryDeadLetters())
