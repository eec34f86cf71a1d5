"""The servers of a run: started here, or those that the environment names."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.line import Servers
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB
from tests.servers.redis import Redis


@contextmanager
def servers() -> Iterator[Servers]:
    """KAFKA (host:port), MONGO_URL and REDIS_URL name real ones; those not named are started.

    Absent or StartFailed when one can't be had.
    """
    named = {name: os.environ.get(name, "") for name in ("KAFKA", "MONGO_URL", "REDIS_URL")}
    with ExitStack() as stack:
        yield Servers(
            named["KAFKA"] or stack.enter_context(Kafka()).address,
            named["MONGO_URL"] or stack.enter_context(MongoDB()).url,
            named["REDIS_URL"] or stack.enter_context(Redis()).url,
        )
