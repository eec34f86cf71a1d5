"""Walk: the functions of `eventfleet/` that are entered while a profiler is set."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

PACKAGE = Path(__file__).parents[2] / "eventfleet"


class Walk:
    """Records each distinct function of the package, in the order of its first entry.

    Comprehensions and lambdas belong to the functions around them.
    """

    def __init__(self) -> None:
        self.functions: dict[CodeType, str] = {}
        self.depth = self.room_changes = 0
        self._room = ""

    async def during(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Record a call, and what runs beside it until it returns."""
        sys.setprofile(self._enter)
        try:
            return await call()
        finally:
            sys.setprofile(None)

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys(self.functions.values()))

    def __str__(self) -> str:
        lines = [f"{file}: {code.co_qualname}" for code, file in self.functions.items()]
        total = f"{len(self.functions)} functions, {len(self.files)} files"
        return "\n".join([*lines, f"{total}, {self.room_changes} room changes, depth {self.depth}"])

    def _enter(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not (file := _file_of(frame)):
            return
        self.functions.setdefault(frame.f_code, file)
        self.depth = max(self.depth, _depth(frame))
        room = file.split("/")[0]
        self.room_changes += room != self._room
        self._room = room


def _file_of(frame: FrameType) -> str:
    if frame.f_code.co_name.startswith("<"):
        return ""
    path = Path(frame.f_code.co_filename)
    return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else ""


def _depth(frame: FrameType | None) -> int:
    depth = 0
    while frame is not None:
        depth += bool(_file_of(frame))
        frame = frame.f_back
    return depth
