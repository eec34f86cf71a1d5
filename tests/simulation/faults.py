"""Servers that refuse, or do it and lose the answer, as the scheduler's dice fall."""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any

from eventfleet.stores.contracts import Write
from eventfleet.stores.errors import ServerUnavailable, StoreError
from tests.simulation.scheduler import Scheduler


class Faults:
    """`rate` is the probability of a fault before a call, and again after it."""

    def __init__(self, scheduler: Scheduler, rate: float) -> None:
        self.scheduler, self.rate = scheduler, rate

    def strike(self, what: str, how: str) -> None:
        if self.scheduler.chance(self.rate):
            self.scheduler.note(what, how)
            raise ServerUnavailable(f"{what}: {how}")

    async def call(
        self, what: str, about: object, work: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Any:
        self.strike(what, "refused")
        try:
            result = await work()
        except StoreError as error:
            self.scheduler.note(what, error)
            raise
        self.scheduler.note(what, about)
        self.strike(what, "done, but the answer is lost")
        return result


class Shaky:
    """Anything with async methods, each call of which may fail."""

    def __init__(self, inner: Any, faults: Faults) -> None:
        self.inner, self.faults = inner, faults

    def __getattr__(self, method: str) -> Any:
        call = getattr(self.inner, method)
        if method == "close":
            return call  # it never raises
        if isasyncgenfunction(call):
            shaken = self._streaming(method, call)
        elif iscoroutinefunction(call):
            shaken = self._calling(method, call)
        else:
            return call
        setattr(self, method, shaken)
        return shaken

    def _calling(self, method: str, call: Any) -> Any:
        async def shaken(*args: Any, **named: Any) -> Any:
            return await self.faults.call(method, args, lambda: call(*args, **named))

        return shaken

    def _streaming(self, method: str, call: Any) -> Any:
        async def shaken(*args: Any, **named: Any) -> AsyncIterator[Any]:
            async for item in call(*args, **named):
                self.faults.strike(method, "breaks off")
                yield item

        return shaken


class ShakyEvents(Shaky):
    """An event store whose ordered write may also stop on the way."""

    def __init__(self, inner: Any, faults: Faults) -> None:
        super().__init__(inner, faults)
        self.registry = Shaky(inner.registry, faults)

    async def write(self, writes: Sequence[Write]) -> None:
        if writes and self.faults.scheduler.chance(self.faults.rate):
            done = self.faults.scheduler.random.randrange(len(writes))
            await self.inner.write(writes[:done])
            self.faults.scheduler.note("write", f"only {done}: {writes[:done]}")
            raise ServerUnavailable(f"write: {done} of {len(writes)} done")
        await self.faults.call("write", writes, lambda: self.inner.write(writes))
