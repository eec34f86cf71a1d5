"""The log on Apache Kafka, and on other brokers of its protocol, through aiokafka."""
