"""`python -m benchmarks` runs all scenarios or those named."""

import asyncio
from pathlib import Path

import click
import msgspec
from rich.console import Console

from benchmarks import chart, scenarios, table
from benchmarks.contenders.task import Result
from benchmarks.environment import read_variable
from benchmarks.results import Comparison, ScenarioResults, measure_value
from benchmarks.runner import ContenderFailed, run_scenario
from benchmarks.scenario import Scenario, ServerAddresses, is_short
from benchmarks.servers import provide_needed

REPEATS = 5
SHORT_REPEATS = 3
FILE_WIDTH_COLUMNS = 120
CHART_FILE = "bench.png"

FilePath = click.Path(dir_okay=False, path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--scenarios",
    "names",
    default=lambda: read_variable("SCENARIOS", "LINES"),
    show_default="all, or four with SHORT=1",
    help="Names of scenarios, separated by commas.",
)
@click.option(
    "--json", "json_file", envvar="JSON", type=FilePath, help="Write the comparisons to this file."
)
@click.option(
    "--chart",
    "chart_file",
    default=lambda: read_variable("CHART", "PICTURE") or CHART_FILE,
    show_default=CHART_FILE,
    type=FilePath,
    help="Draw the throughputs into this file.",
)
def main(names: str, json_file: Path | None, chart_file: Path) -> None:
    """Measure ours beside its peers, by turns, on the same servers and data.

    Every option is an environment variable too: SCENARIOS, JSON, CHART. SHORT=1 runs four
    scenarios with fewer records and repeats. KAFKA, MONGO_URL and REDIS_URL name servers to use;
    the others are started, unless no scenario needs any. The exit status is 1 when a contender
    failed.
    """
    console, progress = Console(), Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH_COLUMNS
    finished: list[ScenarioResults] = []
    failed = False
    selected = scenarios.select(names)
    with provide_needed(selected) as servers:
        for scenario in selected:
            try:
                results = asyncio.run(_run(scenario, servers, progress))
            except ContenderFailed as error:
                progress.print(f"{scenario.name}: {error}", markup=False, soft_wrap=True)
                failed = True
                continue
            finished.append(results)
            table.show_results(console, results)
            _write_json(json_file, _comparisons(finished))
    if finished:
        table.show_goals(console, _comparisons(finished))
        chart.draw(finished, chart_file)
        progress.print(f"chart written to {chart_file}")
    raise SystemExit(failed)


async def _run(scenario: Scenario, servers: ServerAddresses, progress: Console) -> ScenarioResults:
    repeats = SHORT_REPEATS if is_short() else REPEATS

    def print_result(contender: str, repeat: int, result: Result) -> None:
        rate, cpu = measure_value(result, "throughput"), measure_value(result, "cpu")
        figures = f"{rate:>9,.0f} {scenario.unit}  {cpu:>7.2f} us CPU each"
        progress.print(
            f"{scenario.name}  {repeat + 1}/{repeats}  {contender:<28}{figures}", soft_wrap=True
        )

    return await run_scenario(scenario, servers, repeats, print_result)


def _comparisons(finished: list[ScenarioResults]) -> list[Comparison]:
    return [comparison for results in finished for comparison in results.comparisons()]


def _write_json(target: Path | None, comparisons: list[Comparison]) -> None:
    """Write one JSON object a line; the file is complete after each scenario."""
    if target is not None:
        target.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in comparisons))


if __name__ == "__main__":
    main()
