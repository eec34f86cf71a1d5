"""Draws the overview from the values that its queries had in a run."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.monitoring.prometheus import Series

COLUMNS = 3
PANEL_INCHES = 5.2, 2.7
MAX_LEGENDS = 12
UNITS = {"s": "s", "ops": "per s", "reqps": "per s", "bytes": "MiB", "percentunit": "%"}
FACTORS = {"bytes": 2**-20, "percentunit": 100.0}


def draw(
    panels: Sequence[tuple[dict[str, Any], Sequence[tuple[str, list[Series]]]]],
    faults: Mapping[str, tuple[float, float]],
    start: float,
    target: Path,
) -> None:
    """Write a PNG of the panels: Grafana's model, and each legend with its series.

    `faults` are shaded: their seconds since `start`.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.use("Agg")
    rows = -(-len(panels) // COLUMNS)
    size = (PANEL_INCHES[0] * COLUMNS, PANEL_INCHES[1] * rows)
    figure = Figure(figsize=size, layout="constrained")
    places = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for axes, (panel, found) in zip(places, panels, strict=False):
        _draw_panel(axes, panel, found, start)
        for number, (name, span) in enumerate(faults.items()):
            axes.axvspan(span[0] / 60, span[1] / 60, color=f"C{number}", alpha=0.12, lw=0)
            if axes is figure.axes[0]:
                axes.text(span[0] / 60, axes.get_ylim()[1], name, fontsize=6, rotation=20)
    for axes in list(places):
        axes.set_visible(False)
    figure.savefig(target, dpi=75)


def _draw_panel(
    axes: Any, panel: dict[str, Any], found: Sequence[tuple[str, list[Series]]], start: float
) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    factor, drawn = FACTORS.get(unit, 1.0), 0
    for legend, series in found:
        for each in series:
            times = [(at - start) / 60 for at, _ in each.points]
            label = _fill(legend, each.labels) if drawn < MAX_LEGENDS else None
            axes.plot(times, [value * factor for _, value in each.points], lw=1.1, label=label)
            drawn += 1
    axes.set_title(panel["title"], loc="left", fontsize=10, weight="bold")
    axes.set_ylabel(UNITS.get(unit, ""), fontsize=8)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if drawn:
        axes.legend(fontsize=6, ncols=2, frameon=False, loc="upper left")


def _fill(legend: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend).strip()
