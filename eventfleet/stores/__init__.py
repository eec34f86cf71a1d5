"""The contracts of stores, log, clock and ids, and what stands behind them."""
