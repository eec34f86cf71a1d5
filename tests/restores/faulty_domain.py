"""A domain with an event that the code of chosen roles raises on, until it is mended."""

from dataclasses import replace as with_changes
from typing import Any

from msgspec.structs import replace

from eventfleet.model.command_rules import START, Emits
from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Event, State
from eventfleet.model.views import ProjectedEvent, Row, View
from eventfleet.snapshot_rules import every

OUT = "out.steps"


class Step(Event):
    n: str
    fails: tuple[str, ...] = ()


class Trail(State):
    steps: tuple[str, ...] = ()


class Walk(Command):
    n: str


class TrailRow(Row):
    steps: tuple[str, ...] = ()


class Code:
    """The team's code; `mended` has, by role, the last event that it is mended for."""

    def __init__(self) -> None:
        self.mended: dict[str, int] = {}

    def _check(self, role: str, n: str, fails: Any) -> None:
        if role in fails and int(n) > self.mended.get(role, 0):
            raise ZeroDivisionError(f"in {role}")

    def upcast(self, data: dict[str, Any]) -> dict[str, Any]:
        self._check("append", data["n"], data["fails"])
        return data

    def evolve(self, state: Trail, event: Step) -> Trail:
        self._check("snapshot", event.n, event.fails)
        return replace(state, steps=(*state.steps, event.n))

    def is_routed(self, event: ProjectedEvent) -> bool:
        self._check("relay", event.data.n, event.data.fails)
        return True

    def project(self, row: TrailRow | None, event: Any) -> TrailRow:
        self._check("project", event.data.n, event.data.fails)
        return TrailRow(steps=(*(row.steps if row else ()), event.data.n))

    def domain(self, *, synchronous: bool) -> Domain[Trail]:
        """Make the domain of one mode; in a synchronous one append reads no event."""
        domain = Domain(
            "walks",
            state=Trail,
            evolve=self.evolve,
            events=[Step],
            snapshot=every(2),
            routes=[Route(OUT, when=self.is_routed)],
            views=[View("trails", row=TrailRow, project=self.project)],
        )
        if synchronous:
            return with_changes(domain, commands=[Walk], decide=decide)
        return with_changes(
            domain,
            commands=[Emits(Walk, Step, after=frozenset({START, Step}))],
            upcasters={Step: [self.upcast]},
        )


def decide(trail: Trail, command: Walk) -> Step:
    return Step(n=command.n)
