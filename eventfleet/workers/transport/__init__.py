"""A Faust transport that yields one message for each chunk (`eventfleet://host:port`)."""

from faust.transport.drivers import aiokafka as driver

from eventfleet.workers.transport.chunk import Chunk, ChunkSchema
from eventfleet.workers.transport.consumer import Consumer
from eventfleet.workers.transport.consumer_thread import ConsumerConfig

__all__ = ["Chunk", "ChunkSchema", "Consumer", "ConsumerConfig", "Transport"]


class Transport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with our consumer; its app is a RoleApp."""

    Consumer = Consumer
