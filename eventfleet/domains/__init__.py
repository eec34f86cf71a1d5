"""The sample domains, one file each."""
