"""Failed assertions of the helpers are explained as those of tests are."""

import pytest

HELPERS = (
    "accounts",
    "command_oracle",
    "fleet_oracle",
    "fleet_supervisor",
    "half_done_probe",
    "http_senders",
    "load",
    "outage",
    "services",
)

for module in HELPERS:
    pytest.register_assert_rewrite(f"tests.faults.{module}")
