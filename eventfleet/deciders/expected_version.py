"""The check that an aggregate is at the version that a command expects."""

from eventfleet.deciders.outcomes import VersionConflict
from eventfleet.topics.event import ExpectedVersion


def is_expected(version: int, expected: ExpectedVersion | None) -> bool:
    """Check that an aggregate at `version` (0: without events) is as a command expects it."""
    return expected is None or (version > 0 if expected == "*" else version == expected)


def version_conflict(
    domain: str, aggregate_id: str, expected: ExpectedVersion, version: int
) -> VersionConflict:
    """The outcome of a command that expects another version than the present one."""
    present = f"is at version {version}" if version else "has no event"
    wanted = {0: "no event", "*": "an event"}.get(expected, f"version {expected}")
    return VersionConflict(
        f"{domain} {aggregate_id!r} {present}; the command expects {wanted}", version
    )
