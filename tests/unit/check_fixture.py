"""A small domain whose roles have done their work on servers in memory, to be checked."""

from typing import Any

from msgspec.structs import replace

from eventfleet.check import CheckReport, Finding, Kind
from eventfleet.check.deployment import Servers, check_domain
from eventfleet.model.declaration import Route
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Event, State
from eventfleet.runtime.connections import topics_of
from eventfleet.runtime.event_shapes import register_event_shapes
from eventfleet.runtime.partitions import register_partitions
from eventfleet.runtime.settings import Settings
from eventfleet.snapshot_rules import every
from eventfleet.stores.memory.log import MemoryAdmin, MemoryReader
from eventfleet.topics.topic_specs import TopicSpec
from tests.mistakes.parcels import ALL, story
from tests.unit.audit_fixture import PREFIX, AuditFixture

LEDGER = "finance.ledger"


class Placed(Event):
    total: int


class Paid(Event):
    amount: int
    note: str = ""


class Bill(State):
    total: int = 0
    paid: int = 0


def evolve(bill: Bill, event: Event) -> Bill:
    match event:
        case Placed(total=total):
            return replace(bill, total=total)
        case Paid(amount=amount):
            return replace(bill, paid=bill.paid + amount)
    raise TypeError(f"no rule for {type(event).__name__}")


bills = Domain(
    "bills",
    state=Bill,
    evolve=evolve,
    events=[Placed, Paid],
    snapshot=every(2),
    routes=[Route(LEDGER, types=[Paid])],
)


class CheckFixture(AuditFixture):
    """The fleet of a domain with one partition; `settings` and `domain` may be changed."""

    def __init__(self, domain: Domain[Any] = bills) -> None:
        super().__init__(domain)
        self.settings = Settings(partitions=1, group_prefix=PREFIX)
        for spec in topics_of(self.settings, domain):
            self.log.specs[spec.name] = spec

    async def register(self, *roles: str) -> None:
        """Register what a start does, of a worker with these roles."""
        await register_event_shapes(self.domain, self.memory.events, roles)
        await register_partitions(self.settings, self.domain, self.memory.events.registry)

    async def work_on_bills(self) -> None:
        """Place and pay the bill `a` in four events, of which snapshots are taken; place `b`."""
        await self.register()
        await self.produce("1", type="Placed", data={"total": 10})
        await self.produce("2", "3", "4", type="Paid", data={"amount": 2})
        await self.produce("5", aggregate_id="b", type="Placed", data={"total": 20})
        await self.work()

    async def work_on_parcels(self) -> None:
        """Take two parcels to their delivery."""
        self.log.create(TopicSpec(ALL, 1, 1))
        await self.register()
        for parcel in ("p-1", "p-2"):
            for number, (kind, data) in enumerate(story(parcel)):
                await self.produce(f"{parcel}-{number}", aggregate_id=parcel, type=kind, data=data)
        await self.work()

    def set(self, **values: Any) -> None:
        """Go on with other settings."""
        self.settings = self.settings.model_copy(update=values)

    @property
    def servers(self) -> Servers:
        stores = {self.domain.name: self.memory.stores}
        return Servers(MemoryReader(self.log), MemoryAdmin(self.log), stores)

    async def check(self, sample: int | None = None, **servers: Any) -> CheckReport:
        """Check the domain; `servers` take the place of its own."""
        used = self.servers
        for name, value in servers.items():
            setattr(used, name, value)
        return await check_domain(self.settings, self.domain, used, lambda _: None, sample)


def found(report: CheckReport, kind: Kind) -> list[Finding]:
    return [finding for finding in report.findings if finding.kind is kind]


def only(report: CheckReport, *kinds: Kind) -> Finding:
    """The one finding of the first kind, where there are findings of these kinds alone."""
    assert {*report.counts} == {*kinds}, report.findings
    [finding] = found(report, kinds[0])
    return finding
