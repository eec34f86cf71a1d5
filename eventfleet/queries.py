"""What a program imports to read events, snapshots and states.

async with querier(load_settings(), orders) as queries:
    found = await queries.latest("order-1")
"""

from eventfleet.runtime.queriers import querier
from eventfleet.runtime.settings import load_settings
from eventfleet.states.querier import Querier, StateAt

__all__ = ["Querier", "StateAt", "load_settings", "querier"]
