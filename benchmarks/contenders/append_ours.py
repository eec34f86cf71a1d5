"""Our append."""

from benchmarks.contenders.our_roles import work
from benchmarks.contenders.task import run, task

if __name__ == "__main__":
    run(work("append", task()))
