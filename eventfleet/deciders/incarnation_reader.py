"""IncarnationReader: the incarnation of Redis, and whether a domain began in it."""

from eventfleet.stores.contracts import (
    UNKNOWN_INCARNATION,
    EventReader,
    Incarnation,
    LogReader,
    Markers,
    StoreRegistry,
)


class IncarnationReader:
    """Reads the incarnation of Redis for the markers of one domain.

    The domain's registry names the incarnation in which the domain began, from before the first
    mark on: no incarnation is returned while it names none. Nothing of the domain can be under way
    from before its first incarnation.
    """

    def __init__(
        self,
        markers: Markers,
        registry: StoreRegistry,
        log: LogReader,
        topic: str,
        events: EventReader,
    ) -> None:
        self._markers, self._registry, self._log, self._events = markers, registry, log, events
        self._topic = topic
        self._first = ""

    async def find_first(self, *, anew: bool = False) -> None:
        """Find which incarnation is the first; once it is found, only `anew`."""
        if anew or not self._first:
            self._first = await self._registry.first_incarnation() or await self._register()

    async def read(self) -> Incarnation:
        """Read the present incarnation and time, in one call once the first one is found."""
        await self.find_first()
        incarnation = await self._markers.incarnation()
        return incarnation._replace(is_first=incarnation.id == self._first)

    async def _register(self) -> str:
        """Register the first incarnation; return the registered one, which may be another's."""
        return await self._registry.register_first_incarnation(await self._determine())

    async def _determine(self) -> str:
        if await self._is_untouched():
            return (await self._markers.incarnation()).id
        return UNKNOWN_INCARNATION

    async def _is_untouched(self) -> bool:
        """Check that the domain never had an event: where a partition's end is above 0, retention
        may have removed them."""
        watermarks = await self._log.watermarks(self._topic)
        if not watermarks or any(each.end for each in watermarks.values()):
            return False
        return not (await self._events.aggregates("", 1)).items
