"""Measures ours beside its peers, on the same servers and data, by `python -m benchmarks`."""
