"""What a program imports to send commands to a running fleet.

async with event_service(load_settings(), orders) as service:
    outcome = await service.send("order-1", "Pay", {"amount": 1999})
    waited = await service.send("order-1", "Ship", {}, wait=Stage.APPENDED, patience=5)
"""

from eventfleet.deciders.outcomes import (
    Accepted,
    Conflict,
    Outcome,
    Rejected,
    Repeated,
    Unavailable,
)
from eventfleet.runtime.event_services import event_service
from eventfleet.runtime.settings import load_settings
from eventfleet.service.event_service import EventService
from eventfleet.service.stage_waiter import WaitResult
from eventfleet.stores.contracts import Stage

__all__ = [
    "Accepted",
    "Conflict",
    "EventService",
    "Outcome",
    "Rejected",
    "Repeated",
    "Stage",
    "Unavailable",
    "WaitResult",
    "event_service",
    "load_settings",
]
