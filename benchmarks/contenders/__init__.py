"""Contenders: small programs, each run in a process of its own; see `task` for the protocol."""
