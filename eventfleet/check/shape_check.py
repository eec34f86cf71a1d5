"""Compares the declared shapes of events and state with those that the store has recorded."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from eventfleet.check.report import CheckReport, Finding, Kind
from eventfleet.model.domain import Domain
from eventfleet.model.event_shapes import EventShape, short_shapes
from eventfleet.runtime.event_shapes import RAISE_SCHEMA_VERSION, compare_event_shapes
from eventfleet.stores.contracts import EventStore, ShapeCount, SnapshotStore
from eventfleet.topics.names import wire_name

ROLLOUT = "roll out append first, then snapshot, relay, project and command, serve last"
READERS = ("append", "snapshot", "relay", "project")
"""The roles that park an event which their code does not know."""


async def check_event_shapes(
    domain: Domain[Any], store: EventStore, report: CheckReport, *, sampled: bool
) -> None:
    """Find events whose shape was changed without a version.

    Of a sample, also types that were removed: whether events of them are stored, only the whole
    shows.
    """
    recorded = await store.registry.event_shapes()
    update = await compare_event_shapes(domain, store, recorded)
    for line in update.refused:
        where, _, detail = line.rpartition(": ")
        report.add(Finding(Kind.EVENT_SHAPE, where, detail, _sentence_end(RAISE_SCHEMA_VERSION)))
    for event, whom in _new_events(domain, recorded, await store.registry.declarations()):
        if event not in update.older and not any(line.startswith(event) for line in update.refused):
            report.note(f"{event}, is new to {whom}: {ROLLOUT}")
    for event in update.older:
        report.note(f"{event}, is declared as it was before: newer code may have stored others")
    if sampled and not domain.schema_free:
        for name in sorted({each.type for each in recorded} - set(map(wire_name, domain.events))):
            detail = "is recorded in the store, but not declared"
            advice = "declare it again, or check without a sample that no event of it is stored"
            report.add(Finding(Kind.EVENT_TYPE, f"event {name}", detail, advice))


def _new_events(
    domain: Domain[Any],
    recorded: Sequence[EventShape],
    declarations: Mapping[str, Sequence[EventShape]],
) -> Iterator[tuple[str, str]]:
    """Yield each event that running workers may not read, and their roles.

    Where no worker has noted what it declares, an event that is not recorded is one.
    """
    by_role = [(role, declarations[role]) for role in READERS if role in declarations]
    known = {each[:2] for each in recorded}
    for event in short_shapes(domain):
        named = f"event {event.type}, schema version {event.schema_version}"
        if roles := [role for role, events in by_role if event not in events]:
            yield named, ", ".join(roles)
        elif not by_role and known and event[:2] not in known:
            yield named, "the store"


async def check_state_shapes(
    domain: Domain[Any], snapshots: SnapshotStore, report: CheckReport
) -> None:
    """Find snapshots of the same state version whose state has another shape.

    Once there are snapshots of the declared shape, it was deployed before.
    """
    declared, stored = domain.state_shape, await snapshots.shapes()
    deployed = any(each.shape == declared for each in stored)
    for each in stored:
        if each.shape == declared:
            continue
        if deployed or each.shape.version != declared.version or not each.shape.fingerprint:
            text = f"snapshots of state version {each.shape.version} and another shape are not used"
            report.note(text, each.snapshots)
            continue
        report.add(await _changed_state(domain, snapshots, each))


async def _changed_state(
    domain: Domain[Any], snapshots: SnapshotStore, stored: ShapeCount
) -> Finding:
    version = domain.state_version
    found = (await snapshots.latest([stored.aggregate_id], stored.shape)).get(stored.aggregate_id)
    detail = f"the stored snapshots of state version {version} have another shape"
    if found:
        detail += f": {_differences(domain, {*found.state})}"
    advice = (
        f"if that is meant, raise `state_version` to {version + 1}: these snapshots will not be "
        "used, and states are folded from the first event until there are new ones"
    )
    place = stored.snapshots, "snapshots", stored.aggregate_id, found.version if found else 0
    return Finding(Kind.STATE_SHAPE, f"state {domain.state.__name__}", detail, advice, *place)


def _differences(domain: Domain[Any], stored: set[str]) -> str:
    """Say which fields were removed or added, or that the type of one has changed."""
    declared = {field.encode_name for field in msgspec.structs.fields(domain.state)}
    changes = [f"`{name}` is not declared" for name in sorted(stored - declared)]
    changes += [f"`{name}` is new" for name in sorted(declared - stored)]
    return ", ".join(changes) or "the type or default of a field is another one"


def _sentence_end(text: str) -> str:
    return text[:1].lower() + text[1:]
