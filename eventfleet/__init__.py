"""The declarations of a domain, for a team to import.

    class Deposited(Event):
        amount: int

    class Account(State):
        balance: int = 0

    def evolve(account: Account, event: Event) -> Account: ...

    account = Domain("account", state=Account, evolve=evolve, events=[Deposited])

The module's dotted name goes into the setting of domains; `replay(account.fold, Account(), events)`
is what the fleet makes of stored events. `eventfleet.testing` tests a domain without servers,
`eventfleet.commands` and `eventfleet.queries` are for programs beside a running fleet.
"""

from eventfleet.model.command_rules import (
    START,
    CommandContext,
    CommandRule,
    Decides,
    Emits,
    Rejection,
)
from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
from eventfleet.model.errors import DeclarationError
from eventfleet.model.followed import Followed
from eventfleet.model.payloads import Command, Event, SchemalessPayload, State
from eventfleet.model.views import ProjectedEvent, Row, Totals, View
from eventfleet.snapshot_rules import Rule, SinceSnapshot, after, every, on, replay, size
from eventfleet.topics.errors import EventfleetError, InvalidRecord
from eventfleet.topics.event import EventRecord

__all__ = [
    "START",
    "Command",
    "CommandContext",
    "CommandRule",
    "Decides",
    "DeclarationError",
    "Domain",
    "Emits",
    "Event",
    "EventRecord",
    "EventfleetError",
    "Followed",
    "InvalidRecord",
    "ProjectedEvent",
    "Rejection",
    "Route",
    "Row",
    "Rule",
    "SchemalessPayload",
    "SinceSnapshot",
    "State",
    "Totals",
    "View",
    "after",
    "every",
    "on",
    "replay",
    "size",
]
