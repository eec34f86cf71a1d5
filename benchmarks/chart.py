"""The picture: for each line its sides as bars, by throughput or by what its goal is for."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measure import Runs, unit
from benchmarks.table import figure

OURS, THEIRS = "#1f6feb", "#9aa4b2"
INCHES = 0.34


def draw(runs: Sequence[Runs], target: Path) -> None:
    """Write a PNG (or what the name's ending asks for)."""
    mpl.use("Agg")
    heights = [len(each.line.sides) + 1.6 for each in runs]
    picture = Figure(figsize=(10, INCHES * sum(heights) + 0.4), layout="constrained")
    panels = picture.subplots(len(runs), 1, squeeze=False, height_ratios=heights)
    for (axes,), each in zip(panels, runs, strict=True):
        _panel(axes, each)
    picture.savefig(target, dpi=130)


def _panel(axes: Axes, runs: Runs) -> None:
    sides, measure = list(runs.line.sides), _shown(runs)
    values = [median(runs.values(side, measure)) for side in sides]
    colours = [OURS if side == runs.line.ours else THEIRS for side in sides]
    axes.barh(sides, values, color=colours, height=0.7)
    for place, (side, value) in enumerate(zip(sides, values, strict=True)):
        cpu = median(runs.values(side, "cpu"))
        label = f" {figure(value)}    CPU {figure(cpu)} us each"
        axes.text(value, place, label, va="center", fontsize=9)
    better = "" if measure == "throughput" else ", shorter is better"
    title = f"{runs.line.name}, {unit(runs.line, measure)}{better}"
    axes.set_title(title, loc="left", fontsize=11, weight="bold")
    axes.set_xlim(0, max(values) * 1.35)
    axes.set_ylim(len(sides) - 0.4, -0.6)
    axes.tick_params(left=False, labelsize=9)
    axes.xaxis.set_visible(False)
    axes.spines[:].set_visible(False)


def _shown(runs: Runs) -> str:
    """A latency, where ours must reach one beside another's."""
    goals = [goal.measure for goal in runs.line.goals if goal.against]
    return next((name for name in goals if name not in ("throughput", "cpu")), "throughput")
