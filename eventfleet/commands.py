"""The commands and queries of a running fleet, for programs to import.

    from eventfleet.commands import Accepted, Stage, event_service, load_settings
    from eventfleet.domains.orders import Pay, Ship, orders

    async with event_service(load_settings(), orders) as service:
        outcome = await service.send("order-1", Pay(amount=1999))
        if isinstance(outcome, Accepted):
            print(outcome.event_id)
        ship = Ship(carrier="post")
        waited = await service.send("order-1", ship, wait=Stage.APPENDED, patience=5)
        order = await service.latest("order-1")

A command is an object of its class, or a name and its data: `send("order-1", "Pay", {"amount":
1999})`. The settings are read from the environment, as for the command line.
"""

from eventfleet.deciders.outcomes import (
    Accepted,
    Conflict,
    Failed,
    IdReused,
    Outcome,
    Rejected,
    Repeated,
    Unavailable,
    VersionConflict,
)
from eventfleet.runtime.event_services import event_service
from eventfleet.runtime.settings import Settings, load_settings
from eventfleet.service.event_service import EventService, SendOptions
from eventfleet.service.stage_waiter import WaitResult
from eventfleet.stores.contracts import Disposition, DispositionKind, Stage

__all__ = [
    "Accepted",
    "Conflict",
    "Disposition",
    "DispositionKind",
    "EventService",
    "Failed",
    "IdReused",
    "Outcome",
    "Rejected",
    "Repeated",
    "SendOptions",
    "Settings",
    "Stage",
    "Unavailable",
    "VersionConflict",
    "WaitResult",
    "event_service",
    "load_settings",
]
