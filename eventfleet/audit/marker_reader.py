"""Reads the markers of a domain's aggregates into rows."""

from eventfleet.audit.report import AuditReport
from eventfleet.audit.rows import MarkedEvent
from eventfleet.audit.spool import Spool
from eventfleet.stores.contracts import EventReader, Markers

PAGE_AGGREGATES = 500


async def read_markers(
    events: EventReader, markers: Markers, spool: Spool, report: AuditReport
) -> None:
    """Read the marker of each aggregate; due before the ends of the log are read.

    The head is read before the marker: so the marked event is the head, or a later one.
    """
    cursor, full = "", True
    while full:
        page = await events.aggregates(cursor, PAGE_AGGREGATES)
        cursor, full = page.cursor, len(page.items) == PAGE_AGGREGATES
        heads = await events.heads(page.items)
        for key, marker in (await markers.read(page.items)).items():
            head = heads[key].version if key in heads else 0
            if last := marker.prev if marker.noted else marker.event_id:
                spool.add(MarkedEvent(key, last, head, "" if marker.noted else marker.type))
            elif head:
                fault = f"the marker names no event, but version {head} is stored"
                report.violate(5, key, fault)
