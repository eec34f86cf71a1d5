"""What a team declares, and the domains we ship. Pure: no I/O, no client library."""
