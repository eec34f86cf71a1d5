"""The domain of check_fixture, whose event type Paid somebody has removed."""

from dataclasses import replace

from tests.unit import check_fixture

bills = replace(check_fixture.bills, events=[check_fixture.Placed], routes=())
