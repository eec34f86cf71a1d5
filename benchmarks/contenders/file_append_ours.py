"""Our append role on a fleet's file."""

from benchmarks.contenders.file_roles import run_file_role
from benchmarks.contenders.task import read_task, run

if __name__ == "__main__":
    run(run_file_role("append", read_task()))
