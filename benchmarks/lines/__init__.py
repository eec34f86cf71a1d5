"""The lines, in the order in which they are run and shown."""
