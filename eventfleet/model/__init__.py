"""Declarations of domains: payloads, state, command rules, snapshot rule, routes. Pure."""
