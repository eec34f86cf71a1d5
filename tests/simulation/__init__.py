"""The protocols under a seeded scheduler: crashes at any await, owners that overlap, faults."""
