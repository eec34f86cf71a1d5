"""What a program imports to read events, snapshots and states.

async with querier(load_settings(), orders) as queries:
    found = await queries.latest("order-1")
"""

from eventfleet.service.queries import Querier, StateAt
from eventfleet.workers.queries import querier
from eventfleet.workers.settings import load as load_settings

__all__ = ["Querier", "StateAt", "load_settings", "querier"]
