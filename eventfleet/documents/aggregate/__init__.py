"""Aggregates: business objects with their rules, made by a factory, kept by a repository."""
