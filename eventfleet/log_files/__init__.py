"""Reads process logs from files: CSV, JSON lines and XES, each also gzip-compressed."""

from eventfleet.log_files.log_file import LogFile, open_log
from eventfleet.log_files.rows import Columns, FileFormat, LogRow, RowProblem, UnusableFile

__all__ = ["Columns", "FileFormat", "LogFile", "LogRow", "RowProblem", "UnusableFile", "open_log"]
