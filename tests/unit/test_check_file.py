"""`eventfleet check --events`: what is found in a file of events, without a server."""

import io
from collections.abc import Sequence
from dataclasses import replace as with_changes
from typing import Any

from eventfleet.check import CheckReport, Kind
from eventfleet.check.event_file import OTHER_DOMAINS, EventFileCheck
from eventfleet.log_files.byte_source import MAX_LINE_BYTES
from eventfleet.model.domain import Domain
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord
from tests.simulation.in_memory_servers import START
from tests.simulation.recording_domain import tally
from tests.unit.check_fixture import bills, found, only

DOMAINS: dict[str, Domain[Any]] = {"bills": bills, "tally": tally}


def event(aggregate_id: str, version: int, kind: str = "Paid", **named: Any) -> bytes:
    """A line of a file; `data` and `domain` may be given."""
    data = {"total": 5} if kind == "Placed" else {"amount": 5}
    fields = {"domain": "bills", "data": data} | named
    record = EventRecord(
        id=f"{aggregate_id}-{version}",
        type=kind,
        aggregate_id=aggregate_id,
        time=START,
        version=version,
        **fields,
    )
    return encode(record) + b"\n"


def bill(aggregate_id: str, *versions: int) -> list[bytes]:
    return [event(aggregate_id, n, "Placed" if n == 1 else "Paid") for n in versions]


def count(n: int) -> bytes:
    return event("t", n, "Counted", domain="tally", data={"n": str(n)})


def check(
    lines: Sequence[bytes],
    *names: str,
    domains: dict[str, Domain[Any]] = DOMAINS,
) -> dict[str, CheckReport]:
    stream = io.BytesIO(b"".join(lines))
    reports = EventFileCheck("events.jsonl", domains, names, lambda _: None).run(stream)
    return {report.domain: report for report in reports}


def test_a_sound_file_of_two_domains_is_clean() -> None:
    reports = check([*bill("a", 1, 2, 3), b"\n", *bill("b", 1), count(1), count(2)])
    assert {name: (r.clean, r.aggregates, r.events) for name, r in reports.items()} == {
        "bills": (True, 2, 4),
        "tally": (True, 1, 2),
    }


def test_only_the_named_domains_are_checked() -> None:
    broken = event("t", 1, "Lost", domain="tally")
    [report] = check([*bill("a", 1), broken], "bills").values()
    assert report.clean
    assert report.notes == {OTHER_DOMAINS: 1}
    assert only(check([*bill("a", 1), broken])["tally"], Kind.EVENT_TYPE)


def test_faults_of_events_are_found_as_in_a_store() -> None:
    def refuse(data: dict[str, Any]) -> dict[str, Any]:
        raise LookupError(data["total"])

    lines = [*bill("a", 1, 2), event("b", 1, "Placed", data={"total": 7})]
    domains = {"bills": with_changes(bills, upcasters={bills.events[0]: [refuse]})}
    finding = only(check(lines, domains=domains)["bills"], Kind.UPCASTER)
    assert (finding.count, finding.aggregate_id, finding.version) == (2, "a", 1)


def test_a_line_that_is_no_event_is_named_by_its_number() -> None:
    lines = [*bill("a", 1, 2), b"{]\n", *bill("b", 1), b'{"specversion": "1.0"}\n', b"x" * 50]
    report = check(lines)["bills"]
    assert {*report.counts} == {Kind.LINE}
    assert sorted(finding.where for finding in report.findings) == [
        "events.jsonl, line 3",
        "events.jsonl, line 5",
        "events.jsonl, line 6",
    ]
    assert "is not JSON" in report.findings[0].detail


def test_what_follows_a_line_that_is_no_event_is_not_called_a_gap() -> None:
    for lines in ([*bill("a", 1), b"{\n", *bill("a", 3)], [b"{\n", *bill("a", 2)]):
        assert only(check(lines)["bills"], Kind.LINE)
    report = check([*bill("a", 1), b"{\n", *bill("a", 3), *bill("b", 1, 3)])["bills"]
    assert only(report, Kind.VERSION, Kind.LINE).aggregate_id == "b"


def test_a_line_too_long_is_passed_over() -> None:
    lines = [b"x" * (MAX_LINE_BYTES + 5) + b"\n", *bill("a", 1)]
    report = check(lines)["bills"]
    assert only(report, Kind.LINE).where == "events.jsonl, line 1"
    assert report.events == 1


def test_events_that_are_not_together_are_missing_before_the_next() -> None:
    report = check([*bill("a", 1), *bill("b", 1), *bill("a", 2)])["bills"]
    finding = only(report, Kind.VERSION)
    assert (finding.aggregate_id, finding.version) == ("a", 2)
    assert "together, by version" in finding.advice


def test_an_event_of_no_declared_domain_is_no_event_of_the_file() -> None:
    finding = only(check([*bill("a", 1), event("x", 1, domain="bill")])["bills"], Kind.LINE)
    assert finding.where == "events.jsonl, line 2"
    assert "'bill' is no domain that EVENTFLEET_DOMAINS declares" in finding.detail


def test_a_file_without_events_does_not_pass() -> None:
    assert only(check([b"\n"])["bills"], Kind.LINE).detail == "no event is in it"
    reports = check([count(1)], "bills", "tally")
    assert only(reports["bills"], Kind.LINE).detail == "no event of bills is in it"
    assert reports["tally"].clean


class BreaksOff(io.BytesIO):
    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line:
            raise EOFError("the end of the compressed data is missing")
        return line


def test_a_file_that_breaks_off_is_named_with_the_line() -> None:
    stream = BreaksOff(b"".join(bill("a", 1, 2)))
    [report] = EventFileCheck("events.gz", DOMAINS, ["bills"], lambda _: None).run(stream)
    [finding] = found(report, Kind.LINE)
    assert finding.where == "events.gz, line 3"
    assert "breaks off" in finding.detail
    assert report.events == 2
