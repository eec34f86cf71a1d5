"""Judges what the store, the log and the other topics say of one event."""

from collections.abc import Sequence
from typing import Any

from eventfleet.audit.discard_audit import DiscardAudit
from eventfleet.audit.event_rows import EventRows
from eventfleet.audit.report import AuditReport
from eventfleet.audit.route_matcher import name_of
from eventfleet.audit.rows import (
    DeadLetter,
    EventCopy,
    EventInStore,
    LoggedEvent,
    PublishedState,
    UnreadableRecord,
)
from eventfleet.audit.scope import STORED, AuditScope
from eventfleet.model.domain import Domain
from eventfleet.topics.dead_letters import PARKED as PARKED_LETTER
from eventfleet.topics.dead_letters import SUPERSEDED
from eventfleet.topics.event import Position

NOT_PLACED = "stored events that no append has placed"
NOT_APPENDED = "records of the log that append has not committed"
NOT_COMMITTED = "stored events whose place append has not committed"
OLD_LOG = "stored events of an earlier epoch's log, not compared with a log"
LOG_NOT_KEPT = "stored events whose record the log no longer keeps"
NOT_RELAYED = "routed events that relay has not committed"
PARKED = "events that relay parks"
PARKED_BY_APPEND = "events that append parks"
COPIES_NOT_KEPT = "copies that their topic no longer keeps"
TOPIC_MISSING = "copies in missing topics"
LETTERS_NOT_KEPT = "records of the log whose dead letter would no longer be kept"
OTHER_SHAPE = "published snapshots of another shape or state version"
ON_ITS_WAY = "accepted commands whose event is on its way to the store"


class Judge:
    """Judges the rows of one event after the other, and adds what it finds to the report."""

    def __init__(
        self,
        domain: Domain[Any],
        scope: AuditScope,
        report: AuditReport,
        discards: DiscardAudit,
    ) -> None:
        self._domain, self._scope, self._report = domain, scope, report
        self._discards = discards
        self._log = scope.topics.events

    def judge(self, rows: EventRows) -> PublishedState | None:
        """Judge an event's rows; return a published state that no row explains."""
        if rows.copies:
            self._judge_copies(rows)
        if rows.logged:
            self._judge_logged(rows)
        if rows.stored:
            self._judge_stored(rows.stored, rows)
            self._discards.judge(rows.stored, rows.decision)
        for record in rows.unreadable:
            self._judge_unreadable(record, rows)
        for letter in rows.dead_letters:
            self._judge_dead_letter(letter, rows)
        if rows.replies and not rows.stored:
            self._judge_replies(rows)
        if rows.successors and not rows.stored:
            self._judge_successors(rows)
        if rows.marked:
            self._judge_marker(rows)
        return self._judge_published(rows) if rows.published else None

    # The log

    def _judge_logged(self, rows: EventRows) -> None:
        stored = rows.stored
        refused = {(letter.partition, letter.offset) for letter in rows.dead_letters}
        repeats = {each.prev for each in rows.dead_letters if self._is_once(each)}
        for logged in rows.logged:
            if not self._scope.is_appended(logged.partition, logged.offset):
                self._report.count_unjudged(NOT_APPENDED)
            elif stored:
                self._compare_with_log(stored, logged)
            elif (logged.partition, logged.offset) in refused or logged.prev in repeats:
                continue
            elif not self._scope.keeps_dead_letter(logged.partition, logged.offset):
                self._report.count_unjudged(LETTERS_NOT_KEPT)
            else:
                where = f"at offset {logged.offset} of {self._log}"
                fault = f"event {logged.event_id} {where} is not stored"
                self._report.violate(1, logged.aggregate_id, fault)

    def _is_once(self, letter: DeadLetter) -> bool:
        """Return whether repeats of the same record in one chunk get no dead letter."""
        return letter.kind == SUPERSEDED or self._domain.synchronous

    def _compare_with_log(self, stored: EventInStore, logged: LoggedEvent) -> None:
        if not stored.position or stored.digest == logged.digest:
            return
        position = Position.parse(stored.position)
        placed_here = position[1:] == (logged.partition, logged.offset)
        if placed_here and self._scope.keeps_record(position):
            fault = (
                f"stored version {stored.version} differs from the event at offset {logged.offset}"
            )
            self._report.violate(1, stored.aggregate_id, fault)

    def _judge_unreadable(self, record: UnreadableRecord, rows: EventRows) -> None:
        if not self._scope.is_appended(record.partition, record.offset):
            self._report.count_unjudged(NOT_APPENDED)
        elif not rows.dead_letters:
            if self._scope.keeps_dead_letter(record.partition, record.offset):
                where = f"offset {record.offset} of {self._log}"
                fault = f"{where} is not an event and has no dead letter"
                self._report.violate(1, record.aggregate_id, fault)
            else:
                self._report.count_unjudged(LETTERS_NOT_KEPT)

    # The store

    def _judge_stored(self, stored: EventInStore, rows: EventRows) -> None:
        if not stored.position:
            kind = NOT_PLACED if self._domain.synchronous else PARKED_BY_APPEND
            self._report.count_unjudged(kind)
            return
        position = Position.parse(stored.position)
        current = position.epoch >= self._scope.first_epoch
        if current and not self._scope.is_appended(position.partition, position.offset):
            self._report.count_unjudged(NOT_COMMITTED)
            return
        self._check_in_log(stored, position, rows)
        self._check_copies(STORED, stored, position, rows.copies)
        if stored.routes:
            self._check_routed(stored, position, rows.copies)

    def _check_in_log(self, stored: EventInStore, position: Position, rows: EventRows) -> None:
        """Check that the log has the event at its offset, or one that it was placed along with."""
        place = position.partition, position.offset
        if stored.along or any((e.partition, e.offset) == place for e in rows.logged):
            return
        if self._scope.keeps_record(position):
            where = f"not at offset {position.offset} of {self._log}"
            fault = f"{name_of(stored)} is not in the log: {where}"
            repair = self._scope.repairs.explaining(position)
            self._report.violate_unless(repair, 1, stored.aggregate_id, fault)
        else:
            current = position.epoch >= self._scope.first_epoch
            self._report.count_unjudged(LOG_NOT_KEPT if current else OLD_LOG)

    def _check_routed(
        self, stored: EventInStore, position: Position, copies: Sequence[EventCopy]
    ) -> None:
        """Check the routes of an event that relay has committed."""
        relayed = self._scope.relayed
        passed = any(c.topic == STORED and c.offset < relayed.get(c.partition, 0) for c in copies)
        if not passed:
            self._report.count_unjudged(NOT_RELAYED)
            return
        key = stored.aggregate_id
        if (key, stored.version) in self._scope.discarded:
            fault = f"relay passes over {name_of(stored)}, as an operator has decided"
            self._report.inform("discarded", key, fault)
            return
        if self._scope.waits(key, stored.version):
            self._report.count_unjudged(PARKED)
            return
        for number in range(1, len(self._scope.copies)):
            if stored.routes >> number & 1:
                self._check_copies(number, stored, position, copies)

    def _check_copies(
        self, number: int, stored: EventInStore, position: Position, copies: Sequence[EventCopy]
    ) -> None:
        """Check that the topic has the event: with transactions once, otherwise at least once."""
        topic, key, name = self._scope.copies[number], stored.aggregate_id, name_of(stored)
        if not self._scope.watermarks[topic]:
            self._report.count_unjudged(TOPIC_MISSING)
            return
        count = sum(c.topic == number and c.position == stored.position for c in copies)
        if count > 1 and self._scope.exactly_once:
            self._report.violate(4, key, f"{name} is {count} times in {topic}")
        elif count == 0 and self._scope.keeps_copy(number, key, position, stored.version):
            repair = self._scope.repairs.explaining(position)
            self._report.violate_unless(repair, 4, key, f"{name} is missing from {topic}")
        elif count == 0:
            self._report.count_unjudged(COPIES_NOT_KEPT)

    # Copies

    def _judge_copies(self, rows: EventRows) -> None:
        """Check that copies equal the stored event and, of each topic, the first is in order."""
        stored, checked = rows.stored, set[int]()
        for copy in rows.copies:
            topic, key = self._scope.copies[copy.topic], copy.aggregate_id
            if copy.topic and copy.topic not in checked:
                self._report.relayed += 1
            fault = ""
            if stored is None:
                fault = "is not stored"
            elif _differs(copy, stored):
                fault = "differs from the stored event"
            if fault:
                name = f"version {copy.version} (event {copy.event_id}) in {topic}"
                repair = self._scope.repairs.explaining(Position.parse(copy.position))
                self._report.violate_unless(repair, 4, key, f"{name} {fault}")
            if copy.late and copy.topic not in checked:
                self._report.violate(4, key, f"version {copy.version} is out of order in {topic}")
            checked.add(copy.topic)

    # What was refused, accepted and marked

    def _judge_dead_letter(self, letter: DeadLetter, rows: EventRows) -> None:
        report, key = self._report, letter.aggregate_id
        repair = self._scope.repairs.explaining_offset(letter.partition, letter.offset)
        where = f"{self._log}/{letter.partition}/{letter.offset}"
        detail = f"append refused {where}: {letter.reason}"
        if letter.kind == SUPERSEDED:
            report.superseded += 1
            if repair:
                report.explain(repair, key, detail)
            else:
                report.inform("superseded", key, detail)
            return
        report.dead_letters += 1
        if rows.stored and letter.kind == PARKED_LETTER and not rows.stored.position:
            return  # that it is parked is told elsewhere
        if rows.stored:
            report.inform("dead-letter", key, f"{detail}; by now it is stored")
        elif self._domain.uses_marker and letter.prev is not None:
            fault = f"event {letter.event_id}, made by a command, is a dead letter: {detail}"
            report.violate_unless(repair, 1, key, fault)
        else:
            report.add_problem("dead-letter", key, detail)

    def _judge_replies(self, rows: EventRows) -> None:
        """Judge accepted commands whose event is not stored."""
        appended = self._scope.is_appended
        if any(not appended(logged.partition, logged.offset) for logged in rows.logged):
            self._report.count_unjudged(ON_ITS_WAY, len(rows.replies))
            return
        why = f" ({rows.dead_letters[-1].kind})" if rows.dead_letters else ""
        for reply in rows.replies:
            fault = f"command {reply.command_id} was accepted, its event {reply.event_id}"
            self._report.violate(1, reply.aggregate_id, f"{fault} is not stored{why}")

    def _judge_successors(self, rows: EventRows) -> None:
        """Judge superseded events whose `prev` is not stored."""
        for row in rows.successors:
            repair = self._scope.repairs.explaining_offset(row.partition, row.offset)
            where = f"at offset {row.offset} of {self._log}"
            fault = (
                f"event {row.superseded} {where} is superseded, but its prev, event"
                f" {row.event_id}, is not stored"
            )
            self._report.violate_unless(repair, 1, row.aggregate_id, fault)

    def _judge_marker(self, rows: EventRows) -> None:
        """Judge the event that a marker names as the latest: it is the head, or on its way."""
        marked, stored = rows.marked, rows.stored
        assert marked
        appended = self._scope.is_appended
        name = f"the marker names event {marked.event_id}"
        if stored is None:
            if not any(not appended(logged.partition, logged.offset) for logged in rows.logged):
                fault = f"{name}, which is neither stored nor on its way"
                self._report.violate(5, marked.aggregate_id, fault)
        elif stored.version < marked.head:
            fault = f"{name}, version {stored.version}, but version {marked.head} is stored"
            self._report.violate(5, marked.aggregate_id, fault)
        elif marked.type and marked.type != stored.type:
            fault = f"{name} as {marked.type}, which is stored as {stored.type}"
            self._report.violate(5, marked.aggregate_id, fault)

    # Snapshots

    def _judge_published(self, rows: EventRows) -> PublishedState | None:
        """Compare the last record of the compacted topic with the fold at the same version."""
        published = rows.published
        assert published
        if not published.version:
            self._report.count_unjudged(OTHER_SHAPE)
            return None
        digests = [each.digest for each in rows.folded if each.version == published.version]
        if not digests:
            return published
        if published.digest != digests[0]:
            self.report_published(published, "is not the fold of its events")
        return None

    def report_published(self, published: PublishedState, fault: str) -> None:
        """Report a fault of a record of the compacted topic."""
        repair = self._scope.repairs.explaining_snapshot(published.partition, published.taken_at)
        name = f"the record in {self._scope.topics.snapshots} of version {published.version}"
        self._report.violate_unless(repair, 3, published.aggregate_id, f"{name} {fault}")


def _differs(copy: EventCopy, stored: EventInStore) -> bool:
    """Compare a copy with the stored event; the payload only where relay has not upcast it."""
    if (copy.version, copy.position) != (stored.version, stored.position):
        return True
    upcast = copy.topic != STORED and copy.schema_version != stored.schema_version
    return not upcast and copy.digest != stored.digest
