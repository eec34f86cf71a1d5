"""The default serializer: CloudEvents 1.0 in structured JSON mode."""

import json
from datetime import UTC, datetime

import pytest

from eventfleet.buses import CloudEventsSerializer, DocumentEvent
from eventfleet.errors import InvalidRecord

EVENT = DocumentEvent(
    id="e1",
    event_type="UserEmailChanged",
    aggregate_id="user123",
    aggregate_type="User",
    version=2,
    timestamp=datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC),
    data={"new_email": "john.doe@example.com"},
)
CLOUD_EVENT = {
    "specversion": "1.0",
    "id": "e1",
    "type": "UserEmailChanged",
    "source": "User",
    "subject": "user123",
    "time": "2026-01-02T03:04:05.678000Z",
    "version": 2,
    "datacontenttype": "application/json",
    "data": {"new_email": "john.doe@example.com"},
}


def test_an_event_is_a_cloud_event_and_comes_back_as_it_was() -> None:
    value = CloudEventsSerializer().encode(EVENT)
    assert json.loads(value) == CLOUD_EVENT
    assert CloudEventsSerializer().decode(value) == EVENT


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"type": None}, "type"),
        ({"version": "2"}, "version"),
        ({"time": "yesterday"}, "time"),
        ({"data": 7}, "data"),
        ({"datacontenttype": "text/xml"}, "datacontenttype"),
    ],
)
def test_what_is_no_event_names_the_field(changed: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        CloudEventsSerializer().decode(json.dumps(CLOUD_EVENT | changed).encode())
    assert caught.value.field == field


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", b"own:1"])
def test_what_is_no_json_is_said(value: bytes) -> None:
    with pytest.raises(InvalidRecord, match=r"is not (JSON|UTF-8)"):
        CloudEventsSerializer().decode(value)
