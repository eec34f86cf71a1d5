"""The log of commands that run until they are stopped, on standard error: text, or JSON lines."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType

MAX_LOG_BYTES = 10_000_000
TEXT_FORMAT = "%(asctime)s %(levelname)s %(message)s"

logger = logging.getLogger("eventfleet.cli")


class LogHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """The handler of the log, so that others' handlers are left as they are."""

    json = False

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(TEXT_FORMAT))


def log_progress() -> None:
    """Log at the level and in the form of the settings; at `debug` after `log_debug`, in any case.

    Where these two settings are wrong, their defaults hold until `load_settings` names them.
    """
    from eventfleet.runtime.settings import log_settings

    options = log_settings()
    level = logging.getLevelNamesMapping()[options.level.upper()]
    if level == logging.DEBUG or _own_logger().isEnabledFor(logging.DEBUG):
        log_debug()
    else:
        _add_handler()
        _own_logger().setLevel(level)
        logging.getLogger().setLevel(max(level, logging.WARNING))
    if options.format == "json":
        _log_json()


def log_debug() -> None:
    """Log debug messages, and the libraries' own from INFO on."""
    _add_handler()
    logging.getLogger().setLevel(logging.INFO)
    _own_logger().setLevel(logging.DEBUG)


def logs_json() -> bool:
    """Return whether each line on standard error is to be a JSON object."""
    return any(handler.json for handler in _own_handlers())


def log_last_error(reason: str, error: Exception | None) -> None:
    """Log why the process ends, with the traceback of `error` where it is given."""
    logger.critical("%s", reason, exc_info=error)


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Log to a file in place of standard error; it is begun anew here, and at MAX_LOG_BYTES."""
    root, own = logging.getLogger(), _own_handlers()
    to_file = RotatingFileHandler(path, maxBytes=MAX_LOG_BYTES, backupCount=1, encoding="utf-8")
    if path.stat().st_size:
        to_file.doRollover()
    for handler in own:
        to_file.setFormatter(handler.formatter)
        root.removeHandler(handler)
    root.addHandler(to_file)
    try:
        yield
    finally:
        root.removeHandler(to_file)
        to_file.close()
        for handler in own:
            root.addHandler(handler)


def _log_json() -> None:
    from eventfleet.cli.json_log import JsonLogFormatter

    for handler in _own_handlers():
        handler.setFormatter(JsonLogFormatter())
        handler.json = True
    logging.captureWarnings(True)
    sys.excepthook = _log_unforeseen
    threading.excepthook = _log_threads_end


def _log_unforeseen(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    logger.critical("ended by an unforeseen error", exc_info=(kind, error, traceback))


def _log_threads_end(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread else "a thread"
    logger.critical("%s ended by an unforeseen error", name, exc_info=args.exc_value)


def _add_handler() -> None:
    """Add the handler, unless the process logs by handlers of its own."""
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(LogHandler())


def _own_handlers() -> list[LogHandler]:
    return [each for each in logging.getLogger().handlers if isinstance(each, LogHandler)]


def _own_logger() -> logging.Logger:
    return logging.getLogger("eventfleet")
