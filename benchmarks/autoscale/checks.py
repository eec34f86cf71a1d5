"""What a rehearsal of scaling must show."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.autoscale.workload import Plan, StepFigures

REACTION_SECONDS = 20.0
"""Until the lag is read, and until partitions are assigned anew; workers' starts come on top."""


def find_problems(figures: Sequence[StepFigures], plan: Plan) -> list[str]:
    """Return a line for each thing that is not as it should be in the steps of all scaled roles."""
    problems = [problem for step in figures for problem in _step_problems(step, plan)]
    for role in dict.fromkeys(step.role for step in figures):
        problems += _role_problems([step for step in figures if step.role == role], plan)
    return problems


def _step_problems(step: StepFigures, plan: Plan) -> Iterator[str]:
    where = f"{step.role} at {step.rate} a second"
    waited = step.seconds if step.enough_after is None else step.enough_after
    bound = plan.lag_threshold * plan.partitions + step.rate * (waited + REACTION_SECONDS)
    if step.peak_lag > bound:
        yield f"{where}: a lag of {step.peak_lag} is more than {bound:.0f}"
    if step.drained_after is None:
        yield f"{where}: the lag was not drained within {step.seconds:.0f} s"
    if step.most_workers > plan.partitions:
        yield f"{where}: {step.most_workers} workers for {plan.partitions} partitions"


def _role_problems(steps: Sequence[StepFigures], plan: Plan) -> Iterator[str]:
    highest = max(steps, key=lambda step: step.rate)
    needed = plan.workers_for(highest.rate)
    if highest.most_workers < needed:
        yield (
            f"{highest.role} at {highest.rate} a second: {highest.most_workers} workers, "
            f"not the {needed} that it takes"
        )
    if steps[-1].workers != 1:
        yield f"{highest.role}: {steps[-1].workers} workers are left at the end, not 1"


def find_differences(
    report: Mapping[str, Any], replies: int, sent: int, accepted: int
) -> Iterator[str]:
    """Compare an audit's report with the load: all that is accepted is stored, all is answered."""
    found = {**report, "replies": replies}
    wanted = {"clean": True, "dead_letters": 0, "stored": accepted, "replies": sent}
    for name, value in wanted.items():
        if found[name] != value:
            yield f"{name}: {found[name]}, not {value}"
