"""The declaration of a domain: payloads, state, command rules, snapshot rule, routes. Pure."""
