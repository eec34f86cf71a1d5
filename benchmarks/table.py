"""Prints tables: each contender's figures and settings, then the goals."""

from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.results import Comparison, ScenarioResults, measure_unit, spread


def show_results(console: Console, results: ScenarioResults) -> None:
    """Print a row for each contender and each measure that all of them report."""
    scenario = results.scenario
    repeats = len(results.results[scenario.ours])
    table = Table(title=f"{scenario.name}, {repeats} repeats", box=box.SIMPLE, title_justify="left")
    for name in ("contender", "measure"):
        table.add_column(name, overflow="fold")
    for name in ("median", "spread", "ours is"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("its own settings", overflow="fold", style="dim")
    shared = _shared_settings(results)
    for contender in scenario.contenders:
        first, *further = (
            _format_measure(results, contender, measure) for measure in _shared_measures(results)
        )
        own = dict(_settings(results, contender).items() - shared.items())
        table.add_row(contender, *first, _format_settings(own))
        for cells in further:
            table.add_row("", *cells)
    table.caption = f"settings of all contenders: {_format_settings(shared)}"
    table.caption_justify = "left"
    console.print(table)


def show_goals(console: Console, comparisons: list[Comparison]) -> None:
    """Print each goal, the figure reached, and whether it meets the goal."""
    table = Table(title="goals", box=box.SIMPLE, title_justify="left")
    for name in ("scenario", "measure", "against", "goal", "reached", "met"):
        table.add_column(name, overflow="fold")
    for each in comparisons:
        if each.goal is not None:
            reached = format_number(each.median) if each.ratio is None else f"{each.ratio:.2f} x"
            met = "[green]yes[/]" if each.met else "[bold red]no[/]"
            table.add_row(each.name, each.unit, each.against or "", each.goal, reached, met)
    console.print(table)


def format_number(value: float) -> str:
    """Format large numbers as whole ones, others with three significant digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _shared_measures(results: ScenarioResults) -> list[str]:
    reported = [result.measures for runs in results.results.values() for result in runs]
    shared = [name for name in reported[0] if all(name in measures for measures in reported)]
    return ["throughput", "cpu", *shared]


def _format_measure(
    results: ScenarioResults, contender: str, measure: str
) -> tuple[str, str, str, str]:
    scenario, values = results.scenario, results.values(contender, measure)
    ratio = "" if contender == scenario.ours else f"{results.ratio(contender, measure):.2f} x"
    unit = measure_unit(scenario, measure)
    return unit, format_number(median(values)), f"{spread(values):.0%}", ratio


def _settings(results: ScenarioResults, contender: str) -> dict[str, str]:
    """Return the settings that matter to speed, as the contender reports them."""
    reported = results.results[contender][-1].settings
    return {name: str(setting) for name, setting in reported.items()}


def _shared_settings(results: ScenarioResults) -> dict[str, str]:
    first, *others = (_settings(results, each) for each in results.scenario.contenders)
    return {n: s for n, s in first.items() if all(other.get(n) == s for other in others)}


def _format_settings(settings: dict[str, str]) -> str:
    return ", ".join(f"{name} {setting}" for name, setting in sorted(settings.items()))
