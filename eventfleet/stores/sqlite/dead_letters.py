from eventfleet.stores.memory.dead_letters import MemoryDeadLetters


class SqliteDeadLetters(MemoryDeadLetters):
    def __init__(self, d, n):
        super().__init__()
