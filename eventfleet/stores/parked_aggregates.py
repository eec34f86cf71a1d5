"""Parked aggregates where no role parks any."""


class NoParkedAggregates:
    """ParkedAggregates that is always empty."""

    async def load(self, partition: int) -> frozenset[str]:
        return frozenset()
