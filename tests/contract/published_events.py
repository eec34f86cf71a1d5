"""A subscriber that notes what is published."""

from collections import defaultdict

from eventfleet.buses import DocumentEvent
from tests.contract.bus_openings import buses as buses
from tests.contract.document_openings import opening as opening


class Published:
    """Notes what arrives, by document, once for each id."""

    def __init__(self) -> None:
        self.events: defaultdict[str, list[DocumentEvent]] = defaultdict(list)
        self._ids: set[str] = set()

    def handle_event(self, event: DocumentEvent) -> None:
        if event.id not in self._ids:
            self._ids.add(event.id)
            self.events[event.aggregate_id].append(event)

    def types(self, id: str) -> list[tuple[int, str]]:
        return [(event.version, event.event_type) for event in self.events[id]]
