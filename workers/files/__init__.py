"""Process logs from files: CSV, JSON lines and XES, each also gzip-compressed, streamed."""

from workers.files.opening import LogFile, open_log
from workers.files.rows import Columns, Problem, Row, UnusableFile

__all__ = ["Columns", "LogFile", "Problem", "Row", "UnusableFile", "open_log"]
