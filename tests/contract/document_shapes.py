"""The types of one document over many deployments, and the edits that fit them all."""

from typing import Any

import msgspec


class Part1(msgspec.Struct):
    """A part of a game."""

    name: str = ""


class Part2(msgspec.Struct):
    """The same with a field more, which has a default."""

    name: str = ""
    size: int = 7


class Game1(msgspec.Struct):
    """The first type."""

    id: str
    gold: int = 0
    items: list[str] = []
    extra: dict[str, Any] = {}
    parts: list[Part1] = []
    version: int = 0


class Game2(msgspec.Struct):
    """With fields that have defaults, in it and in its parts."""

    id: str
    gold: int = 0
    items: list[str] = []
    extra: dict[str, Any] = {}
    parts: list[Part2] = []
    note: str = "none"
    lead: Part2 = msgspec.field(default_factory=Part2)
    version: int = 0


class Game3(msgspec.Struct):
    """Without `items`, and with a field renamed."""

    id: str
    gold: int = 0
    extra: Any = msgspec.field(default_factory=dict)
    parts: list[Any] = []
    remark: str = "none"
    lead: Part1 = msgspec.field(default_factory=Part1)
    version: int = 0


class Game4(msgspec.Struct):
    """With other types of the fields; `gold` may be a text."""

    id: str
    gold: int | str = 0
    items: tuple[str, ...] = ()
    extra: dict[str, Any] | None = None
    parts: list[Part2] = []
    note: str | None = None
    version: int = 0


SHAPES: tuple[Any, ...] = (Game1, Game2, Game3, Game4)


def change(what: str, game: Any, token: str) -> None:
    """Edit a game of any type in place."""
    match what:
        case "earn":
            game.gold = game.gold + 1 if isinstance(game.gold, int) else token
        case "cap":
            game.gold = min(game.gold, 1) if isinstance(game.gold, int) else game.gold
        case "append" if hasattr(game, "items"):
            game.items = type(game.items)([*game.items, token])[-4:]
        case "part":
            part = {"name": token} if isinstance(game, Game3) else part_of(game)(name=token)
            game.parts = [part, *game.parts][:3]
        case "create" | "append":
            for name in ("note", "remark"):
                if hasattr(game, name):
                    setattr(game, name, token)
        case "nest":
            if not isinstance(game.extra, dict):
                game.extra = {}
            game.extra.setdefault("log", []).append(token)
            game.extra.setdefault("deep", {})[token[-1]] = [token]


def part_of(game: Any) -> Any:
    return Part1 if isinstance(game, Game1) else Part2


def spoil(value: Any) -> None:
    """Change all that can be changed in an answer, as a caller may."""
    if isinstance(value, dict):
        for each in [*value.values()]:
            spoil(each)
        value["spoilt"] = True
    elif isinstance(value, list):
        for each in [*value]:
            spoil(each)
        value.append("spoilt")
    elif isinstance(value, tuple):
        for each in value:
            spoil(each)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            spoil(getattr(value, name))
