"""The errors of buses."""

from eventfleet.stores.errors import ServerUnavailable, StoreError


class EventRefused(StoreError):
    """A bus can never take an event: it is too large, or the serializer can't encode it."""


class BusRestarted(ServerUnavailable):
    """The server of a bus holds other data than it did: it may have lost events and groups."""

    def __init__(self, where: str) -> None:
        super().__init__(f"{where}: the server has lost its data, or is another one")
