"""The table on the screen: each side's figures and settings, then the goals."""

from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Row, Runs, spread, unit


def show(console: Console, runs: Runs) -> None:
    """One line's sides, a row for each measure that all of them have."""
    repeats = len(runs.results[runs.line.ours])
    table = Table(
        title=f"{runs.line.name}, {repeats} repeats", box=box.SIMPLE, title_justify="left"
    )
    for name in ("side", "what"):
        table.add_column(name, overflow="fold")
    for name in ("median", "spread", "ours is"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("settings of its own", overflow="fold", style="dim")
    common = _common(runs)
    for side in runs.line.sides:
        first, *further = (_cells(runs, side, measure) for measure in _measures(runs))
        table.add_row(side, *first, _listed(dict(settings(runs, side).items() - common.items())))
        for cells in further:
            table.add_row("", *cells)
    table.caption = f"settings of all sides: {_listed(common)}"
    table.caption_justify = "left"
    console.print(table)


def show_goals(console: Console, rows: list[Row]) -> None:
    """What ours had to reach, and whether it did."""
    table = Table(title="goals", box=box.SIMPLE, title_justify="left")
    for name in ("line", "what", "against", "goal", "reached", "met"):
        table.add_column(name, overflow="fold")
    for row in rows:
        if row.goal is not None:
            reached = figure(row.median) if row.ratio is None else f"{row.ratio:.2f} x"
            met = "[green]yes[/]" if row.met else "[bold red]no[/]"
            table.add_row(row.name, row.unit, row.against or "", row.goal, reached, met)
    console.print(table)


def settings(runs: Runs, side: str) -> dict[str, str]:
    """What matters to speed, as the side told it."""
    told = runs.results[side][-1].settings
    return {name: str(setting) for name, setting in told.items()}


def figure(value: float) -> str:
    """Large ones whole, small ones with what matters."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _measures(runs: Runs) -> list[str]:
    told = [result.measures for results in runs.results.values() for result in results]
    return ["throughput", "cpu", *(name for name in told[0] if all(name in each for each in told))]


def _cells(runs: Runs, side: str, measure: str) -> tuple[str, str, str, str]:
    values = runs.values(side, measure)
    ratio = "" if side == runs.line.ours else f"{runs.ratio(side, measure):.2f} x"
    return unit(runs.line, measure), figure(median(values)), f"{spread(values):.0%}", ratio


def _common(runs: Runs) -> dict[str, str]:
    told = [settings(runs, side) for side in runs.line.sides]
    return {n: s for n, s in told[0].items() if all(each.get(n) == s for each in told)}


def _listed(settings: dict[str, str]) -> str:
    return ", ".join(f"{name} {setting}" for name, setting in sorted(settings.items()))
