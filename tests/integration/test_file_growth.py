"""The measurement of a large file, on a small one: what it fills, and when it fails."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import file_growth


async def test_all_calls_are_measured_and_one_that_grows_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(file_growth, "LONG_EVENTS", 5)
    monkeypatch.setattr(file_growth, "WARM_UP_CALLS", 1)
    monkeypatch.setattr(file_growth, "MOST_GROWTH", 0.0)
    console = Console(file=StringIO(), width=120)
    assert not await file_growth.measure(tmp_path, 300, 2, console)
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert any("300 events" in line for line in lines)
    for call in file_growth.CALLS_OF:
        (row,) = (line for line in lines if call in line)
        assert "above 0.0" in row
