"""The examples, as a reader would run them."""

from pathlib import Path

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.example_runs import run_example


def test_a_program_of_ones_own_sends_commands(
    kafka: str, mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    with CommandFleet(
        (kafka, mongo_url, redis_url), tmp_path, "eventfleet.domains.orders"
    ) as fleet:
        fleet.start("append")
        said = run_example(fleet, "send_commands.py").splitlines()
        assert said[-2:] == ["Accepted: 200", "Rejected: 100"]
