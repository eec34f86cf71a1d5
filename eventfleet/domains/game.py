"""A dungeon game, action by action: a hero walks, fights, takes items, drinks potions, escapes.

A synchronous domain: what a hero can do depends on the whole state. The dice are in the command, as
the game's server threw them, and their effect is in the events: a replay is the same game again.
"""

from typing import Annotated, Literal

from msgspec import Meta
from msgspec.structs import replace

from eventfleet.model.command_rules import Rejection
from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Event, State
from eventfleet.model.views import ProjectedEvent, Row, Totals, View
from eventfleet.snapshot_rules import every, on

FULL_HEALTH = 20
POTION_HEALTH = 10
SWORD_DAMAGE = 2
PACK_ITEMS = 5
ROWS = COLUMNS = 8

STEPS = {"north": (0, 1), "east": (1, 0), "south": (0, -1), "west": (-1, 0)}

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Direction = Literal["north", "east", "south", "west"]
Item = Literal["sword", "potion", "treasure"]
Points = Annotated[int, Meta(ge=1, le=100)]
Die = Annotated[int, Meta(ge=1, le=6)]


# Events (and upcasters)


class Entered(Event):
    hero: Name


class Walked(Event):
    to: Direction


class FoeMet(Event):
    name: Name
    health: Points
    strength: Points


class FoeHit(Event):
    damage: Points


class FoeSlain(Event):
    pass


class HeroHit(Event):
    damage: Points


class HeroSlain(Event):
    pass


class ItemTaken(Event):
    item: Item


class PotionDrunk(Event):
    healed: Points


class Escaped(Event):
    treasures: Annotated[int, Meta(ge=0)]


# State and evolve


class Foe(State):
    name: str = ""
    health: int = 0
    strength: int = 0


class Adventure(State):
    """`pack`: how many of each item. (`x`, `y`): the hero's place, (0, 0) is the gate."""

    status: str = "outside"
    hero: str = ""
    health: int = 0
    x: int = 0
    y: int = 0
    pack: dict[str, int] = {}  # noqa: RUF012 (msgspec copies it)
    foe: Foe | None = None

    def with_item(self, item: str, count: int) -> "Adventure":
        """Return the adventure with so many more of an item, or fewer below zero."""
        pack = {**self.pack, item: self.pack.get(item, 0) + count}
        return replace(self, pack={name: number for name, number in pack.items() if number > 0})


def evolve(adventure: Adventure, event: Event) -> Adventure:
    match event:
        case Entered(hero=hero):
            return replace(adventure, status="inside", hero=hero, health=FULL_HEALTH)
        case Walked(to=to):
            x, y = place_after(adventure, to)
            return replace(adventure, x=x, y=y)
        case FoeMet(name=name, health=health, strength=strength):
            return replace(adventure, foe=Foe(name=name, health=health, strength=strength))
        case FoeHit(damage=damage):
            foe = adventure.foe or Foe()
            return replace(adventure, foe=replace(foe, health=foe.health - damage))
        case FoeSlain():
            return replace(adventure, foe=None)
        case HeroHit(damage=damage):
            return replace(adventure, health=adventure.health - damage)
        case HeroSlain():
            return replace(adventure, status="slain")
        case ItemTaken(item=item):
            return adventure.with_item(item, 1)
        case PotionDrunk(healed=healed):
            return replace(adventure, health=adventure.health + healed).with_item("potion", -1)
        case Escaped():
            return replace(adventure, status="escaped")
    raise TypeError(f"no rule for {type(event).__name__}")


def place_after(adventure: Adventure, to: str) -> tuple[int, int]:
    x, y = STEPS[to]
    return adventure.x + x, adventure.y + y


# Commands


class Enter(Command):
    hero: Name


class Walk(Command):
    to: Direction


class MeetFoe(Command):
    name: Name
    health: Points
    strength: Points


class Attack(Command):
    """The foe strikes back unless it is slain."""

    die: Die


class TakeItem(Command):
    item: Item


class DrinkPotion(Command):
    pass


class Escape(Command):
    """Leaves the dungeon by the gate, with the treasures in the pack."""


def decide(adventure: Adventure, command: Command) -> Event | list[Event] | Rejection:
    if adventure.status != ("outside" if isinstance(command, Enter) else "inside"):
        return Rejection(f"the hero is {adventure.status}")
    if adventure.foe and not isinstance(command, Attack | DrinkPotion):
        return Rejection(f"the {adventure.foe.name} bars the way")
    match command:
        case Enter(hero=hero):
            return Entered(hero=hero)
        case Walk(to=to):
            return walk(adventure, to)
        case MeetFoe(name=name, health=health, strength=strength):
            return FoeMet(name=name, health=health, strength=strength)
        case Attack(die=die):
            return attack(adventure, die)
        case TakeItem(item=item):
            full = sum(adventure.pack.values()) >= PACK_ITEMS
            return Rejection(f"the pack holds {PACK_ITEMS} items") if full else ItemTaken(item=item)
        case DrinkPotion():
            return drink(adventure)
        case Escape():
            return escape(adventure)
    raise TypeError(f"no rule for {type(command).__name__}")


def walk(adventure: Adventure, to: Direction) -> Event | Rejection:
    x, y = place_after(adventure, to)
    if 0 <= x < COLUMNS and 0 <= y < ROWS:
        return Walked(to=to)
    return Rejection(f"a wall is {to} of ({adventure.x}, {adventure.y})")


def attack(adventure: Adventure, die: int) -> list[Event] | Rejection:
    foe, health = adventure.foe, adventure.health
    if not foe:
        return Rejection("no foe is here")
    damage = die + SWORD_DAMAGE if "sword" in adventure.pack else die
    if damage >= foe.health:
        return [FoeHit(damage=foe.health), FoeSlain()]
    hits = [FoeHit(damage=damage), HeroHit(damage=min(foe.strength, health))]
    return [*hits, HeroSlain()] if foe.strength >= health else hits


def drink(adventure: Adventure) -> Event | Rejection:
    if "potion" not in adventure.pack:
        return Rejection("no potion is in the pack")
    if adventure.health >= FULL_HEALTH:
        return Rejection(f"the hero has the full health of {FULL_HEALTH}")
    return PotionDrunk(healed=min(POTION_HEALTH, FULL_HEALTH - adventure.health))


def escape(adventure: Adventure) -> Event | Rejection:
    if (adventure.x, adventure.y) != (0, 0):
        return Rejection(f"the gate is at (0, 0), the hero at ({adventure.x}, {adventure.y})")
    return Escaped(treasures=adventure.pack.get("treasure", 0))


# Snapshot rule

snapshot = every(100) | on(HeroSlain, Escaped)

# Routes

routes = [Route("game.results", types=[HeroSlain, Escaped])]

# Views


class AdventureRow(Row):
    """`slain`: foes slain. `treasures`: those that the hero has escaped with."""

    hero: str
    status: str = "inside"
    slain: int = 0
    treasures: int = 0


def project_adventure(row: AdventureRow | None, event: ProjectedEvent) -> AdventureRow | None:
    match event.data:
        case Entered(hero=hero):
            return AdventureRow(hero=hero)
        case FoeSlain() if row:
            return replace(row, slain=row.slain + 1)
        case HeroSlain() if row:
            return replace(row, status="slain")
        case Escaped(treasures=treasures) if row:
            return replace(row, status="escaped", treasures=treasures)
    return row


class HeroRank(Row):
    """The adventures of a hero, and the treasures brought home: a ranking, ordered by these."""

    hero: str
    adventures: int = 0
    treasures: int = 0


def plus(rank: HeroRank, adventures: int, treasures: int) -> HeroRank:
    treasures += rank.treasures
    return replace(rank, adventures=rank.adventures + adventures, treasures=treasures)


ranking: Totals[AdventureRow, HeroRank] = Totals(
    "ranking",
    row=HeroRank,
    by=["hero"],
    group=lambda adventure: HeroRank(hero=adventure.hero),
    add=lambda rank, adventure: plus(rank, 1, adventure.treasures),
    remove=lambda rank, adventure: plus(rank, -1, -adventure.treasures),
    merge=lambda one, other: plus(one, other.adventures, other.treasures),
)

adventures = View(
    "adventures",
    row=AdventureRow,
    project=project_adventure,
    indexes=[["hero"], ["status", "treasures"]],
    totals=[ranking],
)

# The Domain

game = Domain(
    "game",
    state=Adventure,
    evolve=evolve,
    events=[
        *(Entered, Walked, FoeMet, FoeHit, FoeSlain),
        *(HeroHit, HeroSlain, ItemTaken, PotionDrunk, Escaped),
    ],
    commands=[Enter, Walk, MeetFoe, Attack, TakeItem, DrinkPotion, Escape],
    decide=decide,
    snapshot=snapshot,
    routes=routes,
    views=[adventures],
)
