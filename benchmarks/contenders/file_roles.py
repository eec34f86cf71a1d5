"""Our roles on a fleet's file, as its one process runs them."""

from benchmarks.contenders.our_roles import RunCounter, count_role, write_counted
from benchmarks.contenders.task import ContenderTask
from benchmarks.file_setup import describe_pragmas, make_settings
from eventfleet.runtime import connections
from eventfleet.runtime.file_backend import FileBackend
from eventfleet.workers.worker_log import SqliteLog


async def run_file_role(name: str, task: ContenderTask) -> None:
    """Run the role over the task's topic and write the result."""
    settings, counter = make_settings(task), RunCounter(task.records)
    async with connections.opened(settings), connections.log_writer(settings) as writer:
        database = FileBackend(settings).database
        log = SqliteLog(database)
        async with log.kept(settings):
            await count_role(name, task, settings, log, writer, counter)
        pragmas = await database.write(describe_pragmas, sync=False)
    write_counted(task, counter, pragmas)
