"""The state of a player's game, which several clients change."""

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass
class GameState:
    """A player's game; the storage counts `version`."""

    id: str
    player: str
    gold: int = 100
    experience: int = 0
    last_updated: datetime | None = None
    version: int = 0


def reward(game: GameState) -> GameState:
    """Give the player 50 gold and 100 experience."""
    game.gold += 50
    game.experience += 100
    game.last_updated = datetime.now(UTC)
    return game
