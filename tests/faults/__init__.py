"""Faults under load: whatever is killed, frozen, stopped or cut off, the outcome is the same."""
