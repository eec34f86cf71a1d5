"""The picture: for each line the throughput of its sides, as bars."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measure import Runs
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
    sides = list(runs.line.sides)
    rates = [median(runs.values(side, "throughput")) for side in sides]
    colours = [OURS if side == runs.line.ours else THEIRS for side in sides]
    axes.barh(sides, rates, color=colours, height=0.7)
    for place, (side, rate) in enumerate(zip(sides, rates, strict=True)):
        cpu = median(runs.values(side, "cpu"))
        label = f" {figure(rate)}   {figure(cpu)} us CPU"
        axes.text(rate, place, label, va="center", fontsize=9)
    axes.set_title(f"{runs.line.name}: {runs.line.unit}", loc="left", fontsize=11, weight="bold")
    axes.set_xlim(0, max(rates) * 1.25)
    axes.invert_yaxis()
    axes.tick_params(left=False, labelsize=9)
    axes.xaxis.set_visible(False)
    axes.spines[:].set_visible(False)
