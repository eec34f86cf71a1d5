"""Faults under load: every process and server is killed, frozen, stopped or cut off, and counted."""
