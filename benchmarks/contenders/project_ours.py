"""Our project role."""

from benchmarks.contenders.our_roles import run_role
from benchmarks.contenders.task import read_task, run

if __name__ == "__main__":
    run(run_role("project", read_task()))
