"""The public faces."""

FACES = ("", ".aggregates", ".buses", ".commands", ".documents", ".errors", ".http", ".queries")
