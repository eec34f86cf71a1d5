"""Commands addressed to aggregates, their handlers, and the dispatcher between them."""
