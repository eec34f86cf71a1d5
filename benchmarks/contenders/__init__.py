"""The sides: small programs, each a process of its own; `task` says how one is called."""
