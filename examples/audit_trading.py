"""Audits an account: each event with its time and actor, the sums, and the kept state against them.

    eventfleet send trading mine DepositCash '{"amount": 100000}'
    eventfleet send trading mine Buy '{"symbol": "ACME", "quantity": 10, "price": 4200, "fee": 99}'
    eventfleet send trading mine Sell '{"symbol": "ACME", "quantity": 4, "price": 4500, "fee": 99}'
    python examples/audit_trading.py mine

Needs a running fleet; the settings in the environment lead to its store, as for `eventfleet`.
"""

import asyncio
import sys

from eventfleet.domains.trading import Portfolio, trading
from eventfleet.domains.trading_report import (
    AuditedEvent,
    IncompleteTrail,
    Report,
    audit_trail,
    effective_events,
    report,
)
from eventfleet.queries import load_settings, querier


async def main(account_id: str) -> None:
    async with querier(load_settings(), trading) as queries:
        kept = await queries.latest(account_id)
        if kept is None:
            sys.exit(f"there is no account {account_id!r}")
        records = [each async for each in queries.events(account_id, limit=kept.version)]
    try:
        for audited in audit_trail(records):
            show_event(audited)
    except IncompleteTrail as error:
        sys.exit(f"{account_id}: {error}")
    if len(records) != kept.version:
        sys.exit(f"{account_id}: of {kept.version} events only {len(records)} are stored")
    print(f"{account_id}: {len(records)} events, none is missing")
    show(report(effective_events(records)), kept.state)


def show_event(audited: AuditedEvent) -> None:
    record = audited.record
    about = ", ".join(f"{name} {value}" for name, value in record.data.items())
    left = f"cash {audited.cash:,}" + ("" if audited.held is None else f", held {audited.held}")
    by = record.actor or "unknown"
    discarded = " (discarded)" if record.discarded else ""
    what = f"{record.type}{discarded}: {about}"
    print(f"{record.version} {record.time.isoformat()} {by} {what}; {left}")


def show(shown: Report, kept: Portfolio) -> None:
    for symbol, each in sorted(shown.dealings.items()):
        print(f"{symbol}: bought {each.bought} for {each.spent:,}, sold {each.sold}", end=" ")
        print(f"for {each.proceeds:,}, profit {each.profit:,}")
    print(f"cash in {shown.cash_in:,}, out {shown.cash_out:,}, fees {shown.fees:,}")
    print(f"profit after fees {shown.profit:,}, cash {shown.account.cash:,}, value {shown.value:,}")
    differences = shown.differences(kept)
    print("\n".join(differences) or "the kept state agrees with the events")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
