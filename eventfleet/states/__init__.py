"""States of aggregates: folded from events, kept in memory, saved as snapshots, queried."""
