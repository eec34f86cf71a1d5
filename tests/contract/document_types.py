"""The same document as each kind of type that a storage takes."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from pydantic import BaseModel


class StructGame(msgspec.Struct):
    """A game as a msgspec Struct."""

    id: str
    gold: int = 0
    items: list[str] = []
    saved_at: datetime | None = None
    version: int = 0


@dataclass
class DataclassGame:
    """A game as a dataclass."""

    id: str
    gold: int = 0
    items: list[str] = field(default_factory=list)
    saved_at: datetime | None = None
    version: int = 0


class ModelGame(BaseModel):
    """A game as a pydantic model."""

    id: str
    gold: int = 0
    items: list[str] = []
    saved_at: datetime | None = None
    version: int = 0


GAMES: dict[str, Any] = {"struct": StructGame, "dataclass": DataclassGame, "model": ModelGame}
