"""Provides the servers of a run: those that the environment names; it starts the others."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from click import ClickException

from benchmarks.scenario import NO_SERVERS, Scenario, ServerAddresses
from tests.servers.install import Absent
from tests.servers.kafka import Kafka
from tests.servers.mongodb import MongoDB
from tests.servers.redis import Redis
from tests.servers.server import StartFailed


@contextmanager
def provide_servers() -> Iterator[ServerAddresses]:
    """Yield the addresses of running servers.

    KAFKA (host:port), MONGO_URL and REDIS_URL name servers to use; those not named are started and
    stopped, after SIGTERM too. ClickException when one cannot be started.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    named = {name: os.environ.get(name, "") for name in ("KAFKA", "MONGO_URL", "REDIS_URL")}
    with ExitStack() as stack:
        try:
            yield ServerAddresses(
                named["KAFKA"] or stack.enter_context(Kafka()).address,
                named["MONGO_URL"] or stack.enter_context(MongoDB()).url,
                named["REDIS_URL"] or stack.enter_context(Redis()).url,
            )
        except (Absent, StartFailed) as error:
            raise ClickException(str(error)) from error


@contextmanager
def provide_needed(scenarios: Sequence[Scenario]) -> Iterator[ServerAddresses]:
    """Yield what `provide_servers` does, or NO_SERVERS where no scenario needs any."""
    if not any(scenario.needs_servers for scenario in scenarios):
        yield NO_SERVERS
        return
    with provide_servers() as servers:
        yield servers
