"""A domain of parcels, and what one deployment changes of it.

`MISTAKES` are ten mistakes in the code of views, routes and snapshot rules, of which a domain's
declaration shows nothing:

- "project raises": view `parcels`, in a new version, raises on Weighed;
- "key raises": the key of view `labels`, in a new version, raises on all but Labelled;
- "add raises": the totals of view `parcels`, in a new version, divide by the grams, which are 0;
- "row can't be stored": a row of view `parcels`, in a new version, has an integer beyond 64 bits;
- "project returns no row": `project` of view `parcels`, in a new version, returns the event;
- "rows changed without a version": rows of view `parcels` have a new field, in the same version;
- "view version lowered": view `parcels` has version 1 again, and its rows of then;
- "route raises": the condition of the route raises on all but Weighed;
- "topic of a route is missing": a new route leads to a topic that nobody has created;
- "snapshot rule raises": the snapshot rule raises from an aggregate's second event on.

`HARMLESS` are ten changes that each deployment may have. A process that declares the domain of one
change has the environment variable PARCELS_CHANGE, with the change's name; without it, the domain
is as it was before.
"""

import os
from collections.abc import Callable
from dataclasses import replace as with_changes
from typing import Any

from msgspec.structs import replace

from eventfleet import Domain, Event, Route, Row, State, Totals, View
from eventfleet.snapshot_rules import Rule, SinceSnapshot, every, on

HEAVY = "carriers.heavy"
ALL = "carriers.all"
"""A topic that exists, and to which no route leads before the change."""
MISSING = "carriers.missing"


# Events


class Registered(Event):
    owner: str


class Weighed(Event):
    grams: int


class Labelled(Event):
    label: str
    text: str


class Delivered(Event):
    pass


class Returned(Event):
    reason: str = ""


# State


class Parcel(State):
    owner: str = ""
    grams: int = 0
    delivered: bool = False


def evolve(parcel: Parcel, event: Any) -> Parcel:
    match event:
        case Registered(owner=owner):
            return replace(parcel, owner=owner)
        case Weighed(grams=grams):
            return replace(parcel, grams=grams)
        case Delivered():
            return replace(parcel, delivered=True)
    return parcel


# Routes


def is_heavy(event: Any) -> bool:
    return bool(event.data.grams > 1_000)


# Views


class ParcelRow(Row):
    owner: str
    grams: int = 0
    delivered: bool = False


class OwnerTotal(Row):
    owner: str
    parcels: int = 0
    grams: int = 0


class LabelRow(Row):
    text: str


def project_parcel(row: ParcelRow | None, event: Any) -> ParcelRow | None:
    match event.data:
        case Registered(owner=owner):
            return ParcelRow(owner=owner)
        case Weighed(grams=grams) if row:
            return replace(row, grams=grams)
        case Delivered() if row:
            return replace(row, delivered=True)
    return row


def add(total: OwnerTotal, row: Any) -> OwnerTotal:
    return replace(total, parcels=total.parcels + 1, grams=total.grams + row.grams)


def remove(total: OwnerTotal, row: Any) -> OwnerTotal:
    return replace(total, parcels=total.parcels - 1, grams=total.grams - row.grams)


def merge(one: OwnerTotal, other: OwnerTotal) -> OwnerTotal:
    return replace(one, parcels=one.parcels + other.parcels, grams=one.grams + other.grams)


owners = Totals(
    "owners",
    row=OwnerTotal,
    by=["owner"],
    group=lambda row: OwnerTotal(owner=row.owner),
    add=add,
    remove=remove,
    merge=merge,
)
parcel_view = View("parcels", row=ParcelRow, project=project_parcel, version=2, totals=[owners])
label_view = View(
    "labels",
    row=LabelRow,
    key=lambda event: event.data.label if isinstance(event.data, Labelled) else None,
    project=lambda row, event: LabelRow(text=event.data.text),
)


# The domain before the change


def before() -> Domain[Parcel]:
    """Return the domain as it is deployed, and fits what it has stored."""
    return Domain(
        "parcels",
        state=Parcel,
        evolve=evolve,
        events=[Registered, Weighed, Labelled, Delivered],
        snapshot=every(2),
        routes=[Route(HEAVY, types=[Weighed], when=is_heavy)],
        views=[parcel_view, label_view],
    )


def story(aggregate_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the types and payloads of a parcel's events."""
    return [
        ("Registered", {"owner": "ann"}),
        ("Weighed", {"grams": 1_500}),
        ("Labelled", {"label": "front", "text": f"to {aggregate_id}"}),
        ("Delivered", {}),
    ]


# Mistakes


def project_unknown(row: ParcelRow | None, event: Any) -> ParcelRow | None:
    if isinstance(event.data, Weighed):
        raise LookupError("no such scale")
    return project_parcel(row, event)


def project_event(row: ParcelRow | None, event: Any) -> Any:
    return event.data if isinstance(event.data, Delivered) else project_parcel(row, event)


def add_ratio(total: OwnerTotal, row: Any) -> OwnerTotal:
    return replace(add(total, row), grams=total.grams // row.grams)


class WideRow(ParcelRow):
    nanograms: int = 0


def project_wide(row: WideRow | None, event: Any) -> Any:
    match event.data:
        case Registered(owner=owner):
            return WideRow(owner=owner)
        case Weighed(grams=grams) if row:
            return replace(row, grams=grams, nanograms=grams * 10**18)
    return row


class SealedRow(ParcelRow):
    sealed: bool = False


def project_sealed(row: SealedRow | None, event: Any) -> Any:
    if isinstance(event.data, Registered):
        return SealedRow(owner=event.data.owner)
    return project_parcel(row, event)


class OwnerRow(Row):
    owner: str


def project_owner(row: OwnerRow | None, event: Any) -> Any:
    return OwnerRow(owner=event.data.owner) if isinstance(event.data, Registered) else row


class Raising(Rule):
    """A team's own rule, with a mistake."""

    def holds(self, since: SinceSnapshot) -> bool:
        if since.version > 1:
            raise ZeroDivisionError("no such share")
        return False


def _with_views(domain: Domain[Any], *views: View[Any]) -> Domain[Any]:
    names = {view.name for view in views}
    kept = [view for view in domain.views if view.name not in names]
    return with_changes(domain, views=[*views, *kept])


def _with_parcels(**fields: Any) -> Callable[[Domain[Any]], Domain[Any]]:
    return lambda domain: _with_views(domain, with_changes(parcel_view, **fields))


Change = Callable[[Domain[Any]], Domain[Any]]

MISTAKES: dict[str, Change] = {
    "project raises": _with_parcels(version=3, project=project_unknown),
    "key raises": lambda domain: _with_views(
        domain, with_changes(label_view, version=2, key=lambda event: event.data.label)
    ),
    "add raises": _with_parcels(version=3, totals=[with_changes(owners, add=add_ratio)]),
    "row can't be stored": _with_parcels(version=3, row=WideRow, project=project_wide),
    "project returns no row": _with_parcels(version=3, project=project_event),
    "rows changed without a version": _with_parcels(row=SealedRow, project=project_sealed),
    "view version lowered": _with_parcels(
        version=1, row=OwnerRow, project=project_owner, totals=()
    ),
    "route raises": lambda domain: with_changes(domain, routes=[Route(HEAVY, when=is_heavy)]),
    "topic of a route is missing": lambda domain: with_changes(
        domain, routes=[*domain.routes, Route(MISSING)]
    ),
    "snapshot rule raises": lambda domain: with_changes(domain, snapshot=Raising()),
}


# Harmless changes


class WeighedWithScale(Event):
    event_type = "Weighed"
    grams: int
    scale: str = ""


def evolve_with_scale(parcel: Parcel, event: Any) -> Parcel:
    grams = getattr(event, "grams", None)
    return evolve(parcel, event if grams is None else Weighed(grams=grams))


def project_with_scale(row: ParcelRow | None, event: Any) -> ParcelRow | None:
    if row and isinstance(event.data, WeighedWithScale):
        return replace(row, grams=event.data.grams)
    return project_parcel(row, event)


def project_with_other_names(present: ParcelRow | None, one: Any) -> ParcelRow | None:
    data = one.data
    if isinstance(data, Registered):
        return ParcelRow(owner=data.owner)
    if present and isinstance(data, Weighed):
        return replace(present, grams=data.grams)
    return replace(present, delivered=True) if present and isinstance(data, Delivered) else present


def _with_scale(domain: Domain[Any]) -> Domain[Any]:
    events = [WeighedWithScale if kind is Weighed else kind for kind in domain.events]
    changed = _with_parcels(project=project_with_scale)(domain)
    routes = [Route(HEAVY, types=["Weighed"], when=is_heavy)]
    return with_changes(changed, events=events, evolve=evolve_with_scale, routes=routes)


HARMLESS: dict[str, Change] = {
    "a new field with a default": _with_scale,
    "other names of local variables": _with_parcels(project=project_with_other_names),
    "a new view": lambda domain: _with_views(
        domain, View("owners_of_parcels", row=OwnerRow, project=project_owner)
    ),
    "other rows in a new version": _with_parcels(version=3, row=SealedRow, project=project_sealed),
    "a new route to a topic that exists": lambda domain: with_changes(
        domain, routes=[*domain.routes, Route(ALL)]
    ),
    "a new event type": lambda domain: with_changes(domain, events=[*domain.events, Returned]),
    "another snapshot rule": lambda domain: with_changes(domain, snapshot=every(3) | on(Delivered)),
    "a view that is gone": lambda domain: with_changes(domain, views=[parcel_view]),
    "totals that are gone, in a new version": _with_parcels(version=3, totals=()),
    "an upcaster": lambda domain: with_changes(domain, upcasters={Weighed: [lambda data: data]}),
}


def changed(name: str) -> Domain[Any]:
    """Return the domain after a change of this name."""
    return (MISTAKES | HARMLESS)[name](before())


parcels = changed(name) if (name := os.environ.get("PARCELS_CHANGE")) else before()
