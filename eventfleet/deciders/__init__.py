"""Deciders: turn commands into events, by the marker or by the latest state."""
