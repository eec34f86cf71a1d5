"""Aggregates followed over sockets: commands over channels, events from the log, in order."""
