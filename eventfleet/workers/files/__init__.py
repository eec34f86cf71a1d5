"""Process logs from files: CSV, JSON lines and XES, each also gzip-compressed, streamed."""

from eventfleet.workers.files.opening import LogFile, open_log
from eventfleet.workers.files.rows import Columns, Problem, Row, UnusableFile

__all__ = ["Columns", "LogFile", "Problem", "Row", "UnusableFile", "open_log"]
