"""What `eventfleet check` says of parked aggregates: which ones the code at hand can handle."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace as with_changes
from typing import Any

import pytest
from click.testing import CliRunner

from eventfleet.check import CheckReport, Kind
from eventfleet.check.event_file import EventFileCheck
from eventfleet.check.parked_check import RETRIED
from eventfleet.cli import main
from eventfleet.model.domain import Domain
from eventfleet.runtime import connections
from eventfleet.topics.parked import Discard
from tests.mistakes.parcels import MISTAKES, before
from tests.unit.check_fixture import CheckFixture, Paid, bills, found

Check = Callable[[CheckFixture], Any]


async def check_servers(fleet: CheckFixture) -> CheckReport:
    return await fleet.check()


async def check_sample(fleet: CheckFixture) -> CheckReport:
    return await fleet.check(sample=1)


async def check_file(fleet: CheckFixture) -> CheckReport:
    """Check the file that `eventfleet events --all --json` writes."""

    @asynccontextmanager
    async def stores(*_: Any, **__: Any) -> AsyncIterator[Any]:
        yield {fleet.domain.name: fleet.memory.stores}

    environment = {"EVENTFLEET_DOMAINS": "tests.mistakes.parcels,tests.unit.check_fixture"}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(connections, "stores", stores)
        written = await in_thread(
            lambda: CliRunner().invoke(
                main, ["events", fleet.domain.name, "--all", "--json"], env=environment
            )
        )
    assert written.exit_code == 0, written.output
    domains = {fleet.domain.name: fleet.domain}
    check = EventFileCheck("events.jsonl", domains, [], lambda _: None)
    [report] = check.run(io.BytesIO(written.stdout_bytes))
    return report


async def in_thread(call: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(call)


CHECKS = pytest.mark.parametrize("check", [check_servers, check_sample, check_file])


def outcomes(report: CheckReport) -> dict[tuple[str, str], tuple[int, bool]]:
    """By role and aggregate, from which version on it is parked, and whether it can go on."""
    return {(p.role, p.aggregate_id): (p.version, not p.fault) for p in report.parked}


# Append


def refuse(data: dict[str, Any]) -> dict[str, Any]:
    raise LookupError("no such currency")


def with_upcaster(upcast: Any) -> Domain[Any]:
    return with_changes(bills, upcasters={Paid: [upcast]})


@pytest.fixture
async def parked_by_append() -> CheckFixture:
    """A fleet whose append parks the bill `a` from version 2 on, two events."""
    fleet = CheckFixture()
    await fleet.work_on_bills()
    fleet.domain = with_upcaster(refuse)
    await fleet.produce("6", "7", aggregate_id="b", type="Paid", data={"amount": 1})
    await fleet.work("append")
    assert await fleet.memory.events.parked() == {"b"}
    return fleet


@CHECKS
async def test_code_that_append_parks_for_is_found(
    parked_by_append: CheckFixture, check: Check
) -> None:
    fleet = parked_by_append
    fleet.domain = with_upcaster(refuse)
    report = await check(fleet)
    assert outcomes(report) == {("append", "b"): (2, False)}
    [finding] = found(report, Kind.PARKED)
    assert finding.where == "append parks 'b' from version 2 on"
    assert "can't handle it either: version 2: LookupError: no such currency" in finding.detail
    assert "test_check_parked.py:" in finding.detail
    [cause] = found(report, Kind.UPCASTER)
    assert (cause.aggregate_id, cause.version) == ("a", 2) or check is check_sample


@CHECKS
async def test_code_that_append_can_go_on_with_is_said(
    parked_by_append: CheckFixture, check: Check
) -> None:
    fleet = parked_by_append
    fleet.domain = bills
    report = await check(fleet)
    assert report.clean, report.findings
    assert outcomes(report) == {("append", "b"): (2, True)}
    assert f"append parks what this code can handle: {RETRIED}" in report.notes
    if check is not check_sample:
        assert report.events == 7


@CHECKS
async def test_other_code_is_run_on_what_append_parks(
    parked_by_append: CheckFixture, check: Check
) -> None:
    """The roles behind append meet these events after its redrive."""
    fleet = parked_by_append

    def strict(bill: Any, event: Any) -> Any:
        if isinstance(event, Paid) and event.amount == 1:
            raise ValueError("too little")
        return bills.evolve(bill, event)

    fleet.domain = with_changes(bills, evolve=strict)
    report = await check(fleet)
    [finding] = found(report, Kind.EVOLVE)
    assert (finding.aggregate_id, finding.version) == ("b", 2)
    assert outcomes(report) == {("append", "b"): (2, True)}


# The roles behind append

BEHIND = {
    "project raises": ("project", 2),
    "route raises": ("relay", 1),
    "snapshot rule raises": ("snapshot", 4),
}


async def parking_fleet(name: str) -> CheckFixture:
    """A fleet that was deployed with a mistake before its first event."""
    fleet = CheckFixture(MISTAKES[name](before()))
    await fleet.work_on_parcels()
    return fleet


@CHECKS
@pytest.mark.parametrize("name", BEHIND)
async def test_parked_aggregates_of_other_roles(name: str, check: Check) -> None:
    fleet = await parking_fleet(name)
    role, first = BEHIND[name]
    parked = {(role, "p-1"), (role, "p-2")}
    report = await check(fleet)
    assert outcomes(report) == dict.fromkeys(parked, (first, False))
    assert {each.where for each in found(report, Kind.PARKED)} == {
        f"{role} parks {parcel!r} from version {first} on" for parcel in ("p-1", "p-2")
    }
    mended = [with_changes(view, version=3) for view in before().views]
    fleet.domain = with_changes(before(), views=mended)
    report = await check(fleet)
    assert report.clean, report.findings
    assert outcomes(report) == dict.fromkeys(parked, (first, True))
    assert any(RETRIED in each for each in report.notes)


@CHECKS
async def test_what_a_role_passes_over_is_not_run(check: Check) -> None:
    fleet = await parking_fleet("route raises")
    letters = fleet.memory.dead_letters
    for _ in range(3):
        for parked in await letters.parked_in("relay", 0):
            discard = Discard("a mistake", "ann", fleet.memory.clock.now())
            await letters.request(parked, discard)
        await fleet.tick("relay")
    assert await letters.parked_in("relay", 0) == []
    report = await check(fleet)
    assert report.clean, report.findings
    assert outcomes(report) == {}
