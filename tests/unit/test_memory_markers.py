"""Markers in memory as a process of its own keeps them: for days, and each start anew."""

from eventfleet.stores.contracts import MarkRequest, MarkStatus, Note, StoredHead
from eventfleet.stores.marker_timeouts import MarkerTimeouts
from eventfleet.stores.memory.channels import MemoryChannels
from eventfleet.stores.memory.markers import MemoryMarkers, MemoryRedis

EXPIRY = 100.0
TIMEOUTS = MarkerTimeouts(EXPIRY, 5.0, EXPIRY)
PER_SECOND = 10


async def test_markers_and_ids_that_have_expired_take_no_memory() -> None:
    now = [0.0]
    server = MemoryRedis(lambda: now[0])
    markers = MemoryMarkers(server, "bank", TIMEOUTS)
    live = int(EXPIRY) * PER_SECOND
    for number in range(10 * live):
        now[0] += 1 / PER_SECOND
        incarnation = (await markers.incarnation())._replace(is_first=True)
        request = MarkRequest(
            *(f"a{number}", f"event-{number}", "Opened", b"event", None, incarnation),
            basis=StoredHead("", ""),
        )
        [marked] = await markers.mark([request])
        assert marked.status is MarkStatus.OK
        note = Note(request.aggregate_id, marked.event_id, marked.prev)
        assert await markers.confirm([note], incarnation) == [True]
        assert max(len(server.data.markers), len(server.data.done)) <= 2 * live


async def test_each_server_of_another_name_is_another_incarnation() -> None:
    servers = [MemoryRedis(lambda: 0.0, name=name) for name in ("one", "two")]
    assert len({server.incarnation().id for server in servers}) == 2
    channels = [MemoryChannels(name=name) for name in ("one", "two")]
    assert len({(await each.incarnation()).id for each in channels}) == 2
