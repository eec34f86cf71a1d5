"""What travels: events, log records, their codec, topic names and settings. No I/O."""
