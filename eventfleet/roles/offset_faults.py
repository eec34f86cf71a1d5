"""Says why a group's committed offset can't be gone on from; the empty string says that it can."""

from typing import Any, Self

from eventfleet.model.domain import Domain
from eventfleet.stores.contracts import OffsetNote, Watermarks


class OffsetFault(str):
    """A fault in words: the finding, how to make sure of it, and the repair.

    `finding` is the first part alone, for as long as nothing is proven.
    """

    finding: str

    @classmethod
    def of(cls, finding: str, advice: str) -> Self:
        fault = cls(f"{finding}. {advice}")
        fault.finding = finding
        return fault


NO_FAULT = OffsetFault()


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
        """How to make sure, and the commands that repair the store or the epoch."""
        name = self._domain.name
        command = "restore" if self._domain.synchronous else "rewind"
        return (
            f"{make_sure(name)}; then eventfleet {command} {name}; where the topic was made anew, "
            f"raise the epoch: eventfleet topics raise-epoch {name}"
        )

    def missing(self, noted: int) -> OffsetFault:
        """Judge the absence of an offset by an earlier note."""
        if not noted:
            return NO_FAULT
        finding = (
            f"{self._domain.name}: the store holds what append took from partition "
            f"{self._partition} below offset {noted} in epoch {self._epoch}, but the consumer "
            "group has no offset: was the group or the topic made anew?"
        )
        return OffsetFault.of(finding, self.repair)

    def of_a_later_epoch(self, newest: int) -> str:
        """Judge the store's epoch by that of its newest event."""
        name = self._domain.name
        if newest <= self._epoch:
            return ""
        return (
            f"{name}: the store holds events of epoch {newest}, but its registry says that it is "
            f"in epoch {self._epoch}: the registry was lost, or is an older copy. New events would "
            f"come before those in the feed. Recover it from the log: eventfleet restore {name}"
        )

    def ahead(self, offset: int, noted: int, before: OffsetNote | None = None) -> OffsetFault:
        """Judge an offset by a later note, and by one that is perhaps of an epoch `before`."""
        name = self._domain.name
        if offset <= noted:
            return NO_FAULT
        if before and before.epoch < self._epoch and offset <= before.next_offset:
            finding = (
                f"{name}: the epoch was raised from {before.epoch} to {self._epoch}, but the "
                f"consumer group still has offset {offset} of partition {self._partition}, as the "
                "store had noted, and the log has it: the topic was not made anew, and needed no "
                "new epoch"
            )
            advice = f"{make_sure(name)}; go on in this epoch: eventfleet restore {name}"
            return OffsetFault.of(finding, advice)
        back = "" if self._domain.synchronous else f", or eventfleet rewind {name}"
        finding = (
            f"{name}: the consumer group has taken partition {self._partition} up to offset "
            f"{offset}, but this store only up to {noted}: the store is another one than the group "
            "filled, perhaps a wrong database or an older copy"
        )
        advice = (
            f"{make_sure(name)}; correct the database's URL or name; where the store is the right "
            f"one: eventfleet restore {name}{back}"
        )
        return OffsetFault.of(finding, advice)


def outside_log(offset: int, watermarks: Watermarks, repair: str) -> OffsetFault:
    """Judge an offset by the records that the log keeps, with the `repair` to do."""
    oldest, end = watermarks
    if offset < oldest:
        finding = (
            f"the group's offset is {offset}, but the log keeps its records from {oldest} to {end} "
            f"only: those before {oldest} were removed before this role had read them"
        )
        return OffsetFault.of(
            finding, f"{repair}. Let logs be kept longer, and restore what is lost"
        )
    if offset > end:
        finding = (
            f"the group's offset is {offset}, but the log holds records from {oldest} to {end}: it "
            "was truncated, made anew or restored from a copy, and what is written now would be "
            "passed over"
        )
        return OffsetFault.of(finding, f"Find out what is lost. {repair}")
    return NO_FAULT


def lost(repair: str) -> OffsetFault:
    """Say what it means that a role which has begun has no offset, with the `repair` to do."""
    finding = (
        "the group has lost its offset: it was deleted, it expired while no worker ran, or its "
        "prefix was changed. From the beginning all would be done again"
    )
    return OffsetFault.of(finding, f"{repair}. Where the prefix was changed, set it back instead")


def moved_back(offset: int, known: int, repair: str) -> OffsetFault:
    """Say what it means that an offset is below one that this process has committed."""
    finding = (
        f"the group's offset is {offset}, but this process has committed {known}: somebody has set "
        "it back, or Kafka has lost it. What lies between would be done again"
    )
    return OffsetFault.of(finding, repair)


def make_sure(domain: str) -> str:
    """Say how an operator makes sure of an offset before a repair, which may double or skip."""
    return (
        f"First make sure, while Kafka is well: eventfleet topics offsets {domain} shows the "
        "offsets, the logs and the store's notes"
    )


def set_offset_hint(domain: str, role: str) -> str:
    """Say how an operator makes sure of the offset of a role other than append, and sets it."""
    views = f", and build its views anew: eventfleet rebuild {domain} VIEW"
    return (
        f"{make_sure(domain)}; then stop the workers of {role}, and set the offset: "
        f"eventfleet topics set-offset {domain} {role} earliest (or latest)"
        f"{views if role == 'project' else ''}"
    )
