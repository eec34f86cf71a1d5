"""What a program imports to send commands to a running fleet.

async with event_service(load_settings(), orders) as service:
    outcome = await service.send("order-1", "Pay", {"amount": 1999})
    waited = await service.send("order-1", "Ship", {}, wait=Stage.APPENDED, patience=5)
"""

from eventfleet.protocols.outcomes import (
    Accepted,
    Conflict,
    Outcome,
    Rejected,
    Repeated,
    Unavailable,
)
from eventfleet.service.events import EventService
from eventfleet.service.waiting import Waited
from eventfleet.stores.contracts import Stage
from eventfleet.workers.deciders import event_service
from eventfleet.workers.settings import load as load_settings

__all__ = [
    "Accepted",
    "Conflict",
    "EventService",
    "Outcome",
    "Rejected",
    "Repeated",
    "Stage",
    "Unavailable",
    "Waited",
    "event_service",
    "load_settings",
]
