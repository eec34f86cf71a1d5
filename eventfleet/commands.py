"""What a program imports to send commands to a running fleet.

async with event_service(load_settings(), orders) as service:
    outcome = await service.send("order-1", "Pay", {"amount": 1999})
    waited = await service.send("order-1", "Ship", {}, wait=Stage.APPENDED, patience=5)
"""

from protocols.outcomes import Accepted, Conflict, Outcome, Rejected, Repeated, Unavailable
from service.events import EventService
from service.waiting import Waited
from stores.contracts import Stage
from workers.deciders import event_service
from workers.settings import load as load_settings

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
