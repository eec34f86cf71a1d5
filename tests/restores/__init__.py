"""Histories of a domain whose store is lost at some moment, and restored."""
