"""In-memory implementations of every contract, for unit tests and simulations."""
