"""Draws the chart: a panel for each scenario with a bar for each contender."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.results import ScenarioResults, measure_unit
from benchmarks.table import format_number

OUR_COLOUR, PEER_COLOUR = "#1f6feb", "#9aa4b2"
BAR_INCHES = 0.34


def draw(finished: Sequence[ScenarioResults], target: Path) -> None:
    """Write a PNG, or the format that the file name's suffix names."""
    mpl.use("Agg")
    heights = [len(results.scenario.contenders) + 1.6 for results in finished]
    figure = Figure(figsize=(10, BAR_INCHES * sum(heights) + 0.4), layout="constrained")
    panels = figure.subplots(len(finished), 1, squeeze=False, height_ratios=heights)
    for (axes,), results in zip(panels, finished, strict=True):
        _draw_panel(axes, results)
    figure.savefig(target, dpi=130)


def _draw_panel(axes: Axes, results: ScenarioResults) -> None:
    scenario, measure = results.scenario, _choose_measure(results)
    contenders = list(scenario.contenders)
    values = [median(results.values(contender, measure)) for contender in contenders]
    colours = [OUR_COLOUR if each == scenario.ours else PEER_COLOUR for each in contenders]
    axes.barh(contenders, values, color=colours, height=0.7)
    for row, (contender, value) in enumerate(zip(contenders, values, strict=True)):
        cpu = median(results.values(contender, "cpu"))
        label = f" {format_number(value)}    CPU {format_number(cpu)} us each"
        axes.text(value, row, label, va="center", fontsize=9)
    better = "" if measure == "throughput" else ", shorter is better"
    title = f"{scenario.name}, {measure_unit(scenario, measure)}{better}"
    axes.set_title(title, loc="left", fontsize=11, weight="bold")
    axes.set_xlim(0, max(values) * 1.35)
    axes.set_ylim(len(contenders) - 0.4, -0.6)
    axes.tick_params(left=False, labelsize=9)
    axes.xaxis.set_visible(False)
    axes.spines[:].set_visible(False)


def _choose_measure(results: ScenarioResults) -> str:
    """Return the latency for which there is a goal against a peer, else throughput."""
    measures = [goal.measure for goal in results.scenario.goals if goal.against]
    return next((name for name in measures if name not in ("throughput", "cpu")), "throughput")
