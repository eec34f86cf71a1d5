"""Faust transports that yield one message for each chunk, from Kafka and from a file of SQLite."""

from faust.transport.drivers import aiokafka as driver

from eventfleet.workers.transport.chunk import Chunk, ChunkSchema
from eventfleet.workers.transport.consumer import Consumer
from eventfleet.workers.transport.consumer_thread import KafkaConsumerConfig
from eventfleet.workers.transport.sqlite_consumer import SqliteConsumer, SqliteConsumerConfig

__all__ = [
    "Chunk",
    "ChunkSchema",
    "Consumer",
    "ConsumerConfig",
    "KafkaConsumerConfig",
    "SqliteConsumerConfig",
    "SqliteTransport",
    "Transport",
]

ConsumerConfig = KafkaConsumerConfig | SqliteConsumerConfig


class Transport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with our consumer; its app is a RoleApp."""

    Consumer = Consumer


class SqliteTransport(Transport):
    """The transport of a fleet in one process."""

    Consumer = SqliteConsumer
