"""Late requests of transactions: roles on a real Kafka, and a proxy that holds their requests."""
