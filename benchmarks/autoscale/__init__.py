"""A rehearsal of scaling by lag: worker processes, and the decisions that a cluster would make."""
