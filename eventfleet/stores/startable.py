"""Startable: what is started and stopped, and so used as `async with`."""

from types import TracebackType
from typing import Self


class Startable:
    """Base of storages and buses: a block of `async with` starts it, and stops it at the end."""

    async def start(self) -> None:
        """Begin to work. The error of a start that fails says why."""

    async def stop(self) -> None:
        """End the work, within bounds."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
