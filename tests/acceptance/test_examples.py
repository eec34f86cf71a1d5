"""The examples, as a reader would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT, TIMEOUT_SECONDS, Fleet


def run_example(fleet: Fleet, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / arguments[0], *arguments[1:]],
        env=fleet.environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        cwd=fleet.folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_program_of_ones_own_sends_commands(
    kafka: str, mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    with CommandFleet(
        (kafka, mongo_url, redis_url), tmp_path, "eventfleet.domains.orders"
    ) as fleet:
        fleet.start("append")
        said = run_example(fleet, "send_commands.py").splitlines()
        assert said[-2:] == ["Accepted: 200", "Rejected: 100"]


def test_an_auditor_reads_what_an_account_has_traded(
    kafka: str, mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    with CommandFleet(
        (kafka, mongo_url, redis_url), tmp_path, "eventfleet.domains.trading"
    ) as fleet:
        fleet.start("append snapshot")
        for command, data in (
            ("DepositCash", '{"amount": 100000}'),
            ("Buy", '{"symbol": "ACME", "quantity": 10, "price": 4200, "fee": 99}'),
            ("MarkPrice", '{"symbol": "ACME", "price": 4400}'),
            ("Sell", '{"symbol": "ACME", "quantity": 4, "price": 4500, "fee": 99}'),
        ):
            fleet.run("send", "trading", "mine", command, data)
        said = run_example(fleet, "audit_trading.py", "mine").splitlines()
        trail, summary = said[:4], said[4:]
        assert [re.sub(r"^(\d+) \S+T\S+ ", r"\1 ", line) for line in trail] == [
            "1 unknown CashDeposited: amount 100000; cash 100,000",
            "2 unknown Bought: symbol ACME, quantity 10, price 4200, fee 99; cash 57,901, held 10",
            "3 unknown PriceMarked: symbol ACME, price 4400; cash 57,901, held 10",
            "4 unknown Sold: symbol ACME, quantity 4, price 4500, fee 99; cash 75,802, held 6",
        ]
        assert summary == [
            "mine: 4 events, none is missing",
            "ACME: bought 10 for 42,000, sold 4 for 18,000, profit 1,200",
            "cash in 100,000, out 0, fees 198",
            "profit after fees 1,002, cash 75,802, value 102,802",
            "the kept state agrees with the events",
        ]
