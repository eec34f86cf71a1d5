"""Checks domains against a file of events, one CloudEvent a line, without any server."""

import gzip
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from eventfleet.check.code_check import CodeCheck
from eventfleet.check.report import CheckReport, Finding, Kind, ShowProgress
from eventfleet.check.role_entries import AnyEntry, RoleEntries, decode_entry
from eventfleet.log_files.byte_source import READ_ERRORS, TOO_LONG, Line, LongLine, read_lines
from eventfleet.model.domain import Domain
from eventfleet.topics.codec import decode_stored
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord
from eventfleet.topics.values import DECODE_ERRORS

PROGRESS_LINES = 1000
WRITE_FILE = "write the file by `eventfleet events DOMAIN --all --json`"
OTHER_DOMAINS = "events of domains that were not named were not checked"


class EventFileCheck:
    """Checks the events of a file, line by line; it holds one aggregate's state.

    The events of an aggregate must come together, by version; lines on what roles park of it, or
    pass over, come before them. Another line is a finding, in the report of the domain that the
    line before it is of. `names`: the domains to check; all that have events without.
    """

    def __init__(
        self,
        name: str,
        domains: Mapping[str, Domain[Any]],
        names: Sequence[str],
        show: ShowProgress,
        partitions: int = 1,
    ) -> None:
        self._name, self._domains, self._named, self._show = name, domains, {*names}, show
        wanted = list(names) or list(domains)
        self._reports = {each: CheckReport(each) for each in wanted}
        self._checks = {
            each: CodeCheck(domains[each], self._reports[each], partitions) for each in wanted
        }
        self._entries: defaultdict[tuple[str, str], RoleEntries] = defaultdict(RoleEntries)
        self._report = self._reports[wanted[0]]
        self._current: tuple[str, str] | None = None
        self._after_fault = False

    def run(self, stream: BinaryIO | gzip.GzipFile) -> list[CheckReport]:
        """Check all lines, and return the report of each domain."""
        number = 0
        try:
            for line in read_lines(stream):
                number = line.number
                self._check_line(line)
                if number % PROGRESS_LINES == 0:
                    self._show(self._report)
        except READ_ERRORS as error:
            self._add_line(number + 1, f"the file breaks off: {error}")
        self._end()
        for check in self._checks.values():
            check.finish()
        self._find_unused()
        self._find_empty()
        seen = [each for each in self._reports.values() if each.events or each.counts]
        return list(self._reports.values()) if self._named else seen

    def _check_line(self, line: Line | LongLine) -> None:
        if isinstance(line, LongLine):
            self._add_line(line.number, TOO_LONG)
        elif line.raw.strip():
            try:
                if (entry := _entry_of(line.raw)) is None:
                    self._check_event(decode_stored(line.raw))
                elif entry.domain in self._checks:
                    self._entries[entry.domain, entry.aggregate_id].add(entry)
            except InvalidRecord as error:
                self._add_line(line.number, str(error))

    def _check_event(self, event: EventRecord) -> None:
        if event.domain not in self._domains:
            known = f"{event.domain!r} is no domain that EVENTFLEET_DOMAINS declares"
            raise InvalidRecord("source", known)
        if event.domain not in self._checks:
            self._end()
            self._report.note(OTHER_DOMAINS)
            return
        check, aggregate = self._checks[event.domain], (event.domain, event.aggregate_id)
        if self._current != aggregate:
            self._end()
            self._current, self._report = aggregate, self._reports[event.domain]
            check.begin(event.aggregate_id, entries=self._entries.pop(aggregate, None))
            if self._after_fault and event.version != 1:
                check.skip()
        self._after_fault = False
        check.add(event)

    def _end(self) -> None:
        if self._current:
            self._checks[self._current[0]].end()
        self._current = None

    def _add_line(self, number: int, fault: str) -> None:
        """Add a finding; what follows in the aggregate can't be folded."""
        where = f"{self._name}, line {number}"
        self._report.add(Finding(Kind.LINE, where, fault, WRITE_FILE))
        self._after_fault = True
        if self._current:
            self._checks[self._current[0]].skip()

    def _find_unused(self) -> None:
        """Report parked entries that no event of the file follows: nothing judges them."""
        for (domain, aggregate_id), entries in self._entries.items():
            if entries.parked:
                roles = ", ".join(sorted({each.role for each in entries.parked}))
                detail = f"{roles} park {aggregate_id!r}, but none of its events is behind that"
                self._reports[domain].add(Finding(Kind.LINE, self._name, detail, WRITE_FILE))

    def _find_empty(self) -> None:
        """A file without events checks nothing: that must not pass for success."""
        if self._named:
            empty = [each for each in self._reports.values() if not each.events]
        else:
            none = not any(each.events for each in self._reports.values())
            empty = [self._report] if none else []
        for report in empty:
            detail = f"no event of {report.domain} is in it" if self._named else "no event is in it"
            report.add(Finding(Kind.LINE, self._name, detail, WRITE_FILE))


def _entry_of(line: bytes) -> AnyEntry | None:
    """Return what a line says of a role; None for another line, such as an event."""
    try:
        return decode_entry(line) if b'"entry"' in line[:20] else None
    except DECODE_ERRORS:
        return None
