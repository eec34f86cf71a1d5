"""Times as process logs write them."""

from datetime import UTC, datetime

import pytest

from eventfleet.log_files.times import in_utc, read_time

MOMENT = datetime(2011, 10, 11, 11, 45, 40, 276000, tzinfo=UTC)


def parsed(value: object) -> datetime:
    return in_utc(read_time(value), UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2011-10-11 13:45:40.276000+02:00",
        "2011-10-11T11:45:40.276Z",
        "2011-10-11T13:45:40.276+0200",
        "2011-10-11 13:45:40,276 +02:00",
        "2011-10-11 11:45:40.276999",
        "2011-10-11 11:45:40.276 UTC",
        "2011/10/11 11:45:40.276",
        "2011.10.11 11:45:40.276",
        "20111011T114540.276Z",
        "  2011-10-11T11:45:40.276Z ",
    ],
)
def test_reads_iso_8601_and_common_variants_as_utc(text: str) -> None:
    assert parsed(text) == MOMENT


def test_a_date_alone_is_its_midnight_in_utc() -> None:
    assert parsed("2011/10/11") == parsed("2011-10-11") == datetime(2011, 10, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("2011-99-01", "'2011-99-01' is not a time"),
        ("11.10.2011 13:45", "'11.10.2011 13:45' is not a time"),
        ("0001-01-01T00:00:00+02:00", "'0001-01-01T00:00:00+02:00' is not a time"),
        ("", "is empty"),
        (None, "is missing"),
        (1318333540, "1318333540 is not a time written as text"),
        ("soon" * 100, "'" + ("soon" * 100)[:56] + "... is not a time"),
    ],
)
def test_says_why_a_value_is_no_time(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^" + reason.replace(".", r"\.").replace("+", r"\+")):
        parsed(value)
