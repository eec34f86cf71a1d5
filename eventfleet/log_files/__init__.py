"""Reads process logs from files: CSV, JSON lines and XES, each also gzip-compressed."""

from eventfleet.log_files.log_file import LogFile, open_log
from eventfleet.log_files.rows import Columns, LogRow, RowProblem, UnusableFile

__all__ = ["Columns", "LogFile", "LogRow", "RowProblem", "UnusableFile", "open_log"]
