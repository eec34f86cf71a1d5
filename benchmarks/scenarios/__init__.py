"""The lines, in the order in which they are run and shown."""

from benchmarks.scenarios import (
    append,
    command,
    fold,
    http_command,
    in_process_command,
    latest_state,
    pass_through,
    relay,
    snapshot,
)

SHORT = [pass_through.LINE, append.LINE, relay.LINE, command.LINE]
ALL = [
    pass_through.LINE,
    append.LINE,
    snapshot.LINE,
    relay.LINE,
    command.LINE,
    in_process_command.LINE,
    http_command.ASYNCHRONOUS,
    http_command.SYNCHRONOUS,
    fold.LINE,
    latest_state.LINE,
]
