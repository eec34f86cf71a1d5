"""The five roles: each processes chunks of records, in plain coroutines over the contracts."""
