"""Reads the markers of a domain's aggregates into rows."""

from eventfleet.audit.report import AuditReport
from eventfleet.audit.rows import AnyRow, MarkedEvent
from eventfleet.audit.spool import Spool
from eventfleet.stores.contracts import NO_HEAD, CurrentMarker, EventReader, Head, Markers

PAGE_AGGREGATES = 500


async def read_markers(
    events: EventReader, markers: Markers, spool: Spool[AnyRow], report: AuditReport
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
            head = heads.get(key, NO_HEAD)
            if last := _latest(marker, head):
                row = MarkedEvent(key, last, head.version, "" if marker.noted else marker.type)
                spool.add(row)
            elif head.version:
                fault = f"the marker names no event, but version {head.version} is stored"
                report.violate(5, key, fault)


def _latest(marker: CurrentMarker, head: Head) -> str:
    """Return the event that the marker takes for the latest stored one.

    A note stands until it is confirmed: its event may be on its way, or stored already.
    """
    is_stored = not marker.noted or head.event_id == marker.event_id
    return marker.event_id if is_stored else marker.prev
