"""Our relay."""

from benchmarks.sides.duty import work
from benchmarks.sides.task import run, task

if __name__ == "__main__":
    run(work("relay", task()))
