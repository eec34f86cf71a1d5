"""A domain whose functions change what they are given: nothing that is kept changes with it."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from eventfleet import Domain, Event, State, every
from eventfleet.aggregates import Aggregate, Repository
from eventfleet.deciders.outcomes import Accepted, Rejected
from eventfleet.model.command_rules import Decision, Rejection
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.snapshots import MemorySnapshots
from tests.unit.sync_domain import PutIn, SyncFixture, TakeOut


class Put(Event):
    cents: int
    tags: list[str] = []  # noqa: RUF012


class Jar(State):
    coins: list[int] = []  # noqa: RUF012
    free: Any = msgspec.field(default_factory=dict)


def evolve(jar: Jar, event: Event) -> Jar:
    assert isinstance(event, Put)
    return replace(jar, coins=[*jar.coins, event.cents])


def decide(jar: Jar, command: Any) -> Decision:
    jar.coins.append(1_000)
    jar.free["spoilt"] = True
    if isinstance(command, TakeOut):
        return Rejection(f"there are {len(jar.coins)}")
    return Put(cents=command.cents)


jars = Domain(
    "till",
    state=Jar,
    evolve=evolve,
    events=[Put],
    commands=[PutIn, TakeOut],
    decide=decide,
    snapshot=every(1),
)


async def test_a_decide_that_changes_the_state_changes_no_state_that_is_kept() -> None:
    async with SyncFixture(domain=jars).open() as desk:
        for cents in (1, 2, 3):
            assert isinstance(await desk.send("PutIn", cents=cents), Accepted)
            assert await desk.send("TakeOut", cents=1) == Rejected(f"there are {cents + 1}")
        found = await desk.querier.latest("a")
        assert found
        assert found.data == {"coins": [1, 2, 3], "free": {}}
        found.state.coins.append(9)
        again = await desk.querier.latest("a")
        assert again
        assert again.state.coins == [1, 2, 3]


class JarAggregate(Aggregate[Jar]):
    domain = jars

    def put(self, event: Put) -> None:
        self.state.coins.append(1_000)
        self.raise_event(event)


async def test_an_aggregate_keeps_what_was_raised_and_folded() -> None:
    stores = DomainStores(MemoryEvents(domain="till"), MemorySnapshots())
    repository, raised = Repository(JarAggregate, stores), Put(cents=5, tags=["a"])
    jar = await repository.load_or_new("j1")
    jar.put(raised)
    raised.tags.append("later")
    jar.uncommitted_changes[0].tags.append("later")  # type: ignore[attr-defined]
    jar.state.coins.append(7)
    [event] = await repository.save(jar)
    assert event.data == {"cents": 5, "tags": ["a"]}
    event.data["tags"].append("later")
    [stored] = [each async for each in stores.events.read("j1")]
    assert stored.data == {"cents": 5, "tags": ["a"]}
    snapshot = (await stores.snapshots.latest(["j1"], jars.state_shape))["j1"]
    assert snapshot.state["coins"] == jar.state.coins == [5]
    snapshot.state["coins"].append(8)
    assert (await repository.load("j1")).state.coins == [5]


class Shared:
    """A value of a team's own."""

    def __init__(self) -> None:
        self.names: list[str] = []


class Named(State):
    shared: Any = Shared()


@pytest.mark.parametrize("times", [1, 2])
def test_first_states_share_no_default(times: int) -> None:
    domain = Domain("named", state=Named, evolve=lambda state, event: state, events=[Put])
    for _ in range(times):
        first = domain.first_state()
        assert first.shared.names == []
        first.shared.names.append("spoilt")
