"""`python -m benchmarks`: all lines, or those asked for, on servers of its own or those named."""

import asyncio
import signal
import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console

from benchmarks import chart, scenarios, table
from benchmarks.contenders.task import Result
from benchmarks.measure import Row, Runs, SideFailed, measure, value
from benchmarks.scenario import Line, Servers, short
from benchmarks.servers import servers

REPEATS = 5
SHORT_REPEATS = 3
FILE_WIDTH = 120


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--lines", "asked", envvar="LINES", default="", help="Which, comma-separated.")
@click.option("--json", "told", envvar="JSON", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--picture",
    "drawn",
    envvar="PICTURE",
    default="bench.png",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
)
def main(asked: str, told: Path | None, drawn: Path) -> None:
    """Measure ours beside its peers, by turns, on the same servers and data.

    Every option is an environment variable too: LINES, JSON, PICTURE. SHORT=1 measures four lines
    with fewer records and repeats. KAFKA, MONGO_URL and REDIS_URL name servers to use; those not
    named are started. The status is 1 when a side failed.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    console, narrator = Console(), Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    finished: list[Runs] = []
    failed = False
    chosen = _chosen(asked)
    with servers() as places:
        for line in chosen:
            try:
                runs = asyncio.run(_measured(line, places, narrator))
            except SideFailed as error:
                narrator.print(f"{line.name}: {error}", markup=False, soft_wrap=True)
                failed = True
                continue
            finished.append(runs)
            table.show(console, runs)
            _write(told, [row for runs in finished for row in runs.rows()])
    if finished:
        table.show_goals(console, [row for runs in finished for row in runs.rows()])
        chart.draw(finished, drawn)
        narrator.print(f"drawn in {drawn}")
    raise SystemExit(failed)


def _chosen(asked: str) -> list[Line]:
    """The lines of these names, in their own order."""
    if not asked:
        return scenarios.SHORT if short() else scenarios.ALL
    names = {_plain(name) for name in asked.split(",")}
    known = [_plain(line.name) for line in scenarios.ALL]
    if strange := sorted(names.difference(known)):
        raise click.BadParameter(f"no line {', '.join(strange)}; there are {', '.join(known)}")
    return [line for line in scenarios.ALL if _plain(line.name) in names]


def _plain(name: str) -> str:
    return name.strip().replace("_", "-").replace(" ", "-")


async def _measured(line: Line, places: Servers, narrator: Console) -> Runs:
    repeats = SHORT_REPEATS if short() else REPEATS

    def tell(side: str, repeat: int, result: Result) -> None:
        rate, cpu = value(result, "throughput"), value(result, "cpu")
        figures = f"{rate:>9,.0f} {line.unit}  {cpu:>7.2f} us CPU each"
        narrator.print(f"{line.name}  {repeat + 1}/{repeats}  {side:<28}{figures}", soft_wrap=True)

    return await measure(line, places, repeats, tell)


def _write(target: Path | None, rows: list[Row]) -> None:
    """One JSON object a line, whole after each line measured."""
    if target is not None:
        target.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


if __name__ == "__main__":
    main()
