"""Reads process logs from files: CSV, JSON lines and XES, each also gzip-compressed."""

from eventfleet.log_files.log_file import LogFile, open_log
from eventfleet.log_files.rows import Columns, Row, RowProblem, UnusableFile

__all__ = ["Columns", "LogFile", "Row", "RowProblem", "UnusableFile", "open_log"]
