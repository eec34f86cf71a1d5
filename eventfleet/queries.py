"""The queries of a running fleet's events, snapshots and states, for programs to import.

    from eventfleet.domains.orders import orders
    from eventfleet.queries import load_settings, querier

    async with querier(load_settings(), orders) as queries:
        found = await queries.latest("order-1")
        async for event in queries.events("order-1", after=2):
            print(event.version, event.type, event.data)

It needs the store alone. The EventService of `eventfleet.commands` answers the same queries.
"""

from eventfleet.runtime.queriers import querier
from eventfleet.runtime.settings import Settings, load_settings
from eventfleet.states.querier import MissingEvents, Querier, StateAt, StateDiff
from eventfleet.states.view_reader import RowPage, UnknownView, ViewNotBuilt, ViewReader, ViewRow
from eventfleet.stores.contracts import Page, Snapshot
from eventfleet.topics.event import EventKey, EventRecord, event_id

__all__ = [
    "EventKey",
    "EventRecord",
    "MissingEvents",
    "Page",
    "Querier",
    "RowPage",
    "Settings",
    "Snapshot",
    "StateAt",
    "StateDiff",
    "UnknownView",
    "ViewNotBuilt",
    "ViewReader",
    "ViewRow",
    "event_id",
    "load_settings",
    "querier",
]
