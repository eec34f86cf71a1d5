"""Asynchronous event sourcing, arrow by arrow, on real servers: each test is named by its arrow."""
