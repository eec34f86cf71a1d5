"""Files of rows for tests of their readers."""

from pathlib import Path

import pytest

from eventfleet.log_files import Columns, FileFormat, LogRow, RowProblem, UnusableFile, open_log


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(
    path: Path, columns: Columns | None = None, file_format: FileFormat | None = None
) -> tuple[list[LogRow], list[str]]:
    """The rows, and the problems without the folder's name."""
    with open_log(path, columns, file_format) as log:
        items = list(log)
    problems = [str(item) for item in items if isinstance(item, RowProblem)]
    folder = f"{path.parent}/"
    return [item for item in items if isinstance(item, LogRow)], [
        text.removeprefix(folder) for text in problems
    ]


def refusal(path: Path) -> str:
    with pytest.raises(UnusableFile) as caught:
        open_log(path)
    return str(caught.value).removeprefix(f"{path.parent}/")
