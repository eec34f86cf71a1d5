"""Twins of the servers in memory: for unit tests and simulations, with the same contracts."""
