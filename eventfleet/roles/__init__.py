"""What each role does with one chunk: plain coroutines over the contracts, without a clock."""
