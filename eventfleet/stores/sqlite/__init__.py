"""The stores in one SQLite file, which one process has open."""
