"""A dungeon game: what each command becomes, what can never be, and a bug found in a past state."""

from collections import Counter
from dataclasses import replace as with_changes
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from msgspec import to_builtins
from msgspec.structs import replace

from eventfleet import Command, Event, EventRecord, Rejection, SinceSnapshot, replay
from eventfleet.domains.game import (
    COLUMNS,
    FULL_HEALTH,
    PACK_ITEMS,
    POTION_HEALTH,
    ROWS,
    STEPS,
    Adventure,
    Attack,
    DrinkPotion,
    Enter,
    Entered,
    Escape,
    Escaped,
    Foe,
    FoeHit,
    FoeMet,
    FoeSlain,
    HeroHit,
    HeroSlain,
    ItemTaken,
    MeetFoe,
    PotionDrunk,
    TakeItem,
    Walk,
    Walked,
    evolve,
    game,
)
from eventfleet.roles.relay import downstream
from eventfleet.testing import given
from tests.unit.event_records import record

ENTERED = Entered(hero="ann")
GOBLIN = FoeMet(name="goblin", health=6, strength=5)
INSIDE = [ENTERED]
FIGHT = [ENTERED, GOBLIN]
HURT = [ENTERED, HeroHit(damage=4), ItemTaken(item="potion")]
WEAK = [ENTERED, HeroHit(damage=15), GOBLIN]
FULL_PACK = [ENTERED, *[ItemTaken(item="treasure")] * PACK_ITEMS]
SLAIN = [*WEAK, FoeHit(damage=1), HeroHit(damage=5), HeroSlain()]
ESCAPED = [ENTERED, Escaped(treasures=0)]


@pytest.mark.parametrize(
    ("events", "command", "then"),
    [
        ([], Enter(hero="ann"), [ENTERED]),
        (INSIDE, Walk(to="north"), [Walked(to="north")]),
        (INSIDE, Walk(to="east"), [Walked(to="east")]),
        ([ENTERED, Walked(to="north")], Walk(to="south"), [Walked(to="south")]),
        ([ENTERED, Walked(to="east")], Walk(to="west"), [Walked(to="west")]),
        (INSIDE, MeetFoe(name="goblin", health=6, strength=5), [GOBLIN]),
        (FIGHT, Attack(die=5), [FoeHit(damage=5), HeroHit(damage=5)]),
        (FIGHT, Attack(die=6), [FoeHit(damage=6), FoeSlain()]),
        ([ENTERED, ItemTaken(item="sword"), GOBLIN], Attack(die=5), [FoeHit(damage=6), FoeSlain()]),
        (WEAK, Attack(die=1), [FoeHit(damage=1), HeroHit(damage=5), HeroSlain()]),
        (INSIDE, TakeItem(item="potion"), [ItemTaken(item="potion")]),
        (FULL_PACK[:-1], TakeItem(item="treasure"), [ItemTaken(item="treasure")]),
        (HURT, DrinkPotion(), [PotionDrunk(healed=4)]),
        ([*HURT, HeroHit(damage=9)], DrinkPotion(), [PotionDrunk(healed=POTION_HEALTH)]),
        ([*HURT, GOBLIN], DrinkPotion(), [PotionDrunk(healed=4)]),
        (FULL_PACK, Escape(), [Escaped(treasures=5)]),
    ],
)
def test_what_a_hero_can_do_becomes_events(
    events: list[Event], command: Command, then: list[Event]
) -> None:
    given(game, *events).when(command).then(*then)


@pytest.mark.parametrize(
    ("events", "command", "reason"),
    [
        (INSIDE, Walk(to="south"), "a wall is south of (0, 0)"),
        (INSIDE, Walk(to="west"), "a wall is west of (0, 0)"),
        ([ENTERED, *[Walked(to="east")] * 7], Walk(to="east"), "a wall is east of (7, 0)"),
        ([ENTERED, *[Walked(to="north")] * 7], Walk(to="north"), "a wall is north of (0, 7)"),
        (INSIDE, Attack(die=1), "no foe is here"),
        (FULL_PACK, TakeItem(item="sword"), "the pack holds 5 items"),
        (INSIDE, DrinkPotion(), "no potion is in the pack"),
        ([ENTERED, ItemTaken(item="potion")], DrinkPotion(), "the hero has the full health of 20"),
        ([ENTERED, Walked(to="east")], Escape(), "the gate is at (0, 0), the hero at (1, 0)"),
        *(
            (FIGHT, command, "the goblin bars the way")
            for command in (
                *(Walk(to="north"), TakeItem(item="sword"), Escape()),
                MeetFoe(name="troll", health=9, strength=9),
            )
        ),
        *(
            (events, command, f"the hero is {status}")
            for events, status, refused in [
                ([], "outside", (Walk(to="north"), Escape())),
                (INSIDE, "inside", (Enter(hero="ann"),)),
                (SLAIN, "slain", (Enter(hero="ann"), Attack(die=6), DrinkPotion())),
                (ESCAPED, "escaped", (Enter(hero="ann"), Walk(to="north"))),
            ]
            for command in refused
        ),
    ],
)
def test_what_a_hero_can_not_do_is_rejected_with_what_is_there(
    events: list[Event], command: Command, reason: str
) -> None:
    given(game, *events).when(command).rejected(reason)


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (Enter(hero=""), "data.hero"),
        (Walk(to="up"), "data.to"),  # type: ignore[arg-type]
        (Attack(die=7), "data.die"),
        (TakeItem(item="dragon"), "data.item"),  # type: ignore[arg-type]
        (MeetFoe(name="goblin", health=0, strength=1), "data.health"),
    ],
)
def test_a_command_out_of_its_bounds_is_no_command(command: Command, field: str) -> None:
    given(game, ENTERED).when(command).invalid(field)


def test_a_story_is_told_by_its_events() -> None:
    story = given(game).when(Enter(hero="ann")).when(TakeItem(item="sword")).when(Walk(to="east"))
    fight = story.when(MeetFoe(name="goblin", health=6, strength=5)).when(Attack(die=1))
    fight.state(health=15, x=1, pack={"sword": 1}, foe=Foe(name="goblin", health=3, strength=5))
    won = fight.when(Attack(die=1)).when(TakeItem(item="treasure")).when(Walk(to="west"))
    won.when(Escape()).then(Escaped(treasures=1)).state(status="escaped", foe=None)


def test_a_potion_is_drunk_once() -> None:
    better = given(game, *HURT).when(DrinkPotion())
    better.state(health=FULL_HEALTH, pack={})
    better.when(DrinkPotion()).rejected("no potion is in the pack")


# What can never be

directions, items = st.sampled_from([*STEPS]), st.sampled_from(["sword", "potion", "treasure"])
points = st.integers(1, 9) | st.integers(1, 100)
FOE: dict[str, Any] = {"name": st.just("goblin"), "health": points, "strength": points}
COMMANDS = st.one_of(
    st.builds(Walk, to=directions),
    st.builds(MeetFoe, **FOE),
    st.builds(Attack, die=st.integers(1, 6)),
    st.builds(TakeItem, item=items),
    *(st.builds(kind) for kind in (DrinkPotion, Escape)),
)
EVENTS = st.one_of(
    st.builds(Entered, hero=st.just("ann")),
    st.builds(Walked, to=directions),
    st.builds(FoeMet, **FOE),
    *(st.builds(kind, damage=points) for kind in (FoeHit, HeroHit)),
    *(st.builds(kind) for kind in (FoeSlain, HeroSlain)),
    st.builds(ItemTaken, item=items),
    st.builds(PotionDrunk, healed=points),
    st.builds(Escaped, treasures=points),
)


def counted(events: list[Event]) -> dict[str, Any]:
    """What is left after the events, by sums over each kind: none of the product's fold."""
    walked = Counter(event.to for event in events if isinstance(event, Walked))
    pack = Counter(event.item for event in events if isinstance(event, ItemTaken))
    healed = [event.healed for event in events if isinstance(event, PotionDrunk)]
    hits = [event.damage for event in events if isinstance(event, HeroHit)]
    pack["potion"] -= len(healed)
    return {
        "health": FULL_HEALTH + sum(healed) - sum(hits),
        "x": walked["east"] - walked["west"],
        "y": walked["north"] - walked["south"],
        "pack": {item: number for item, number in pack.items() if number},
    }


@drawn(st.lists(COMMANDS, max_size=40))
def test_no_commands_heal_beyond_full_health_or_leave_the_dungeon_through_a_wall(
    commands: list[Command],
) -> None:
    story: Any = given(game, ENTERED)
    events: list[Event] = [ENTERED]
    for command in commands:
        story = story.when(command)
        events += story.outcome if isinstance(story.outcome, list) else []
        adventure = story.state(**counted(events))
        assert 0 <= adventure.health <= FULL_HEALTH
        assert (adventure.status == "slain") == (adventure.health == 0)
        assert 0 <= adventure.x < COLUMNS
        assert 0 <= adventure.y < ROWS
        assert sum(adventure.pack.values()) <= PACK_ITEMS
        assert adventure.foe is None or adventure.foe.health > 0


@drawn(st.lists(EVENTS, max_size=20))
def test_every_event_has_its_place_in_every_state(events: list[Event]) -> None:
    adventure = replay(evolve, Adventure(), events)
    assert game.load_state(game.dump_state(adventure)) == adventure


def test_an_event_without_a_rule_is_a_fault() -> None:
    class Lost(Event):
        pass

    with pytest.raises(TypeError, match="no rule for Lost"):
        evolve(Adventure(), Lost())


# A bug


def faulty_decide(adventure: Adventure, command: Command) -> Event | list[Event] | Rejection:
    """As of a build in which a potion heals whole, however healthy the hero is."""
    if isinstance(command, DrinkPotion):
        return PotionDrunk(healed=POTION_HEALTH)
    assert game.decide
    return game.decide(adventure, command)  # type: ignore[return-value]


def test_the_state_before_a_bug_reproduces_it_and_shows_that_it_is_mended() -> None:
    def stored(event: Event, version: int) -> EventRecord:
        made = record(type(event).__name__, to_builtins(event))
        return replace(made, domain="game", version=version)

    past = [stored(event, version) for version, event in enumerate(HURT, 1)]
    faulty = with_changes(game, decide=faulty_decide)
    given(faulty, *past).when(DrinkPotion()).state(health=26)
    given(game, *past).when(DrinkPotion()).state(health=FULL_HEALTH)


def test_a_last_state_does_not_say_which_event_made_it_wrong() -> None:
    """Two adventures of the faulty build end alike, and went wrong at different versions."""
    hit, taken, drunk = HeroHit(damage=4), ItemTaken(item="potion"), PotionDrunk(healed=10)
    first, second = [ENTERED, hit, taken, drunk], [ENTERED, taken, drunk, hit]
    assert given(game, *first).state(health=26) == given(game, *second).state()
    assert [wrong_version(events) for events in (first, second)] == [4, 3]


def wrong_version(events: list[Event]) -> int:
    """The version from which on a hero has more than the full health."""
    versions = range(1, len(events) + 1)
    return next(n for n in versions if given(game, *events[:n]).state().health > FULL_HEALTH)


# Its snapshots, and where its events go


def test_a_game_is_snapshotted_when_it_ends_or_after_a_hundred_events() -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC)

    def due(events: int, kind: str) -> bool:
        assert game.snapshot
        return game.snapshot.due(SinceSnapshot(events, 0, now, now, frozenset({kind}), 10))

    assert not due(99, "Walked")
    assert due(100, "Walked")
    assert all(due(1, kind) for kind in ("HeroSlain", "Escaped"))


@pytest.mark.parametrize(
    ("event", "topics"),
    [(ENTERED, []), (HeroSlain(), ["game.results"]), (Escaped(treasures=2), ["game.results"])],
)
def test_results_go_to_the_high_scores(event: Event, topics: list[str]) -> None:
    stored = replace(record(type(event).__name__, to_builtins(event)), domain="game")
    assert [outgoing.topic for outgoing in downstream(game, stored)] == topics
