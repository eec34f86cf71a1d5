"""The traceback that a team sees of its own function."""

import pytest

from eventfleet.model.team_traceback import team_traceback
from eventfleet.stores.memory.log import MemoryLog
from eventfleet.topics.codec import decode
from eventfleet.topics.errors import InvalidRecord


def raise_from_package() -> None:
    decode(b"?")


def own_function() -> None:
    try:
        raise_from_package()
    except InvalidRecord as error:
        raise LookupError("nowhere") from error


def test_it_ends_with_the_teams_own_line() -> None:
    with pytest.raises(LookupError) as raised:
        own_function()
    shown = team_traceback(raised.value)
    assert shown.endswith("LookupError: nowhere")
    assert f'File "{__file__}", line ' in shown
    assert 'raise LookupError("nowhere") from error' in shown
    assert "InvalidRecord" in shown


def test_frames_before_the_teams_are_left_out() -> None:
    called_by_package: list[str] = []

    class Log(MemoryLog):
        def _topic(self, topic: str) -> list[list[object]]:  # type: ignore[override]
            raise LookupError("nowhere")

    with pytest.raises(LookupError) as raised:
        Log().entries("t", 0)
    shown = team_traceback(raised.value.with_traceback(raised.tb.tb_next))
    called_by_package = [line for line in shown.splitlines() if "eventfleet/stores" in line]
    assert called_by_package == []
    assert "in _topic" in shown


def test_without_a_line_of_the_teams_all_is_shown() -> None:
    with pytest.raises(InvalidRecord) as raised:
        decode(b"?")
    shown = team_traceback(raised.value.with_traceback(raised.tb.tb_next))
    assert "codec.py" in shown
