"""Process logs from files: CSV, JSON lines and XES, each also gzip-compressed, streamed."""

from eventfleet.log_files.log_file import LogFile, open_log
from eventfleet.log_files.rows import Columns, Problem, Row, UnusableFile

__all__ = ["Columns", "LogFile", "Problem", "Row", "UnusableFile", "open_log"]
