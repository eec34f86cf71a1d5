"""Says why a group's committed offset can't be gone on from; the empty string says that it can."""

from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.stores.contracts import Watermarks


class AppendOffset:
    """Judges append's offset of a partition by what its store has noted.

    An owner notes in the store how far it has come before it commits that, and commits an offset
    before it notes the first. So the committed offset is never above a later note in the store that
    the group fills, and never absent where there was a note before.
    """

    def __init__(self, domain: Domain[Any], partition: int, epoch: int) -> None:
        self._domain, self._partition, self._epoch = domain, partition, epoch

    @property
    def repair(self) -> str:
        """The commands that repair the store or the epoch."""
        name = self._domain.name
        command = "restore" if self._domain.synchronous else "rewind"
        return (
            f"eventfleet {command} {name}; where the topic was made anew, raise the epoch: "
            f"eventfleet topics raise-epoch {name}"
        )

    def missing(self, noted: int) -> str:
        """Judge the absence of an offset by an earlier note."""
        if not noted:
            return ""
        return (
            f"{self._domain.name}: the store holds what append took from partition "
            f"{self._partition} below offset {noted} in epoch {self._epoch}, but the consumer "
            f"group has no offset: was the group or the topic made anew? {self.repair}"
        )

    def ahead(self, offset: int, noted: int) -> str:
        """Judge an offset by a later note."""
        if offset <= noted:
            return ""
        name = self._domain.name
        back = "" if self._domain.synchronous else f", or eventfleet rewind {name}"
        return (
            f"{name}: the consumer group has taken partition {self._partition} up to offset "
            f"{offset}, but this store only up to {noted}: the store is another one than the group "
            "filled, perhaps a wrong database or an older copy. Correct the database's URL or "
            f"name; where the store is the right one: eventfleet restore {name}{back}"
        )


def outside_log(offset: int, watermarks: Watermarks, repair: str) -> str:
    """Judge an offset by the records that the log keeps, with the `repair` to do."""
    oldest, end = watermarks
    if offset < oldest:
        return (
            f"the group's offset is {offset}, but the log keeps its records from {oldest} to {end} "
            f"only: those before {oldest} were removed before this role had read them. Let logs be "
            f"kept longer, restore what is lost, and then {repair}"
        )
    if offset > end:
        return (
            f"the group's offset is {offset}, but the log holds records from {oldest} to {end}: it "
            "was truncated, made anew or restored from a copy, and what is written now would be "
            f"passed over. Find out what is lost, and then {repair}"
        )
    return ""


def lost(repair: str) -> str:
    """Say what it means that a role which has begun has no offset, with the `repair` to do."""
    return (
        "the group has lost its offset: it was deleted, it expired while no worker ran, or its "
        "prefix was changed. From the beginning all would be done again. Restore the offset or "
        f"the prefix, or {repair}"
    )


def set_offset_hint(domain: str, role: str) -> str:
    """Say how an operator sets the offset of a role other than append."""
    return (
        f"stop the workers of {role}, and set the offset: "
        f"eventfleet topics set-offset {domain} {role} earliest (or latest)"
    )
