"""Ours beside its peers, on the same servers and data, in one run: `python -m benchmarks`."""
