"""Chat rooms over WebSockets: commands by Redis, events by the log, messages by replay or view."""
