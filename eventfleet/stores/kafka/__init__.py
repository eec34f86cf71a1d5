"""The log on Apache Kafka, and on brokers that speak its protocol, by aiokafka."""
