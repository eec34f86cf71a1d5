"""Runs the contenders of a scenario by turns, each in a process of its own."""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence

import msgspec

from benchmarks.contenders.task import ContenderTask, Result
from benchmarks.results import ScenarioResults
from benchmarks.scenario import Scenario, ServerAddresses
from eventfleet.topics.errors import EventfleetError

TIMEOUT_SECONDS = 300.0


class ContenderFailed(Exception):
    """Raised when a contender fails, is too slow, or reports an impossible result; the message
    includes its output."""


def rotate(contenders: Sequence[str], repeat: int) -> list[str]:
    """Return the order of one repeat: each repeat begins with another contender."""
    first = repeat % len(contenders)
    return [*contenders[first:], *contenders[:first]]


OnResult = Callable[[str, int, Result], None]
"""Called after each run with the contender, the number of the repeat, and the result."""


async def run_scenario(
    scenario: Scenario, servers: ServerAddresses, repeats: int, on_result: OnResult
) -> ScenarioResults:
    """Run all contenders of a scenario `repeats` times each. The first ContenderFailed ends it."""
    results: dict[str, list[Result]] = {contender: [] for contender in scenario.contenders}
    for repeat in range(repeats):
        for contender in rotate(list(scenario.contenders), repeat):
            task = await _prepare(scenario, servers, contender, repeat)
            result = await run_contender(contender, scenario.contenders[contender], task)
            if contender == scenario.ours:
                await _verify(scenario, servers, task)
            results[contender].append(result)
            on_result(contender, repeat, result)
    return ScenarioResults(scenario, results)


async def _prepare(
    scenario: Scenario, servers: ServerAddresses, contender: str, repeat: int
) -> ContenderTask:
    try:
        return await scenario.prepare(servers, contender, repeat)
    except EventfleetError as error:
        raise ContenderFailed(f"cannot prepare the data for {contender}: {error}") from error


async def _verify(scenario: Scenario, servers: ServerAddresses, task: ContenderTask) -> None:
    if scenario.verify is not None:
        try:
            await scenario.verify(servers, task)
        except Exception as error:
            raise ContenderFailed(f"{scenario.ours} stored wrong data: {error!r}") from error


async def run_contender(contender: str, module: str, task: ContenderTask) -> Result:
    command = [sys.executable, "-m", f"benchmarks.contenders.{module}"]
    return await run_program(contender, command, task)


async def run_program(
    contender: str, command: Sequence[str], task: ContenderTask, timeout: float = TIMEOUT_SECONDS
) -> Result:
    """Run a program on a task and return its result.

    ContenderFailed, with the program's stderr, when it fails or exceeds `timeout` seconds.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        msgspec.json.encode(task).decode(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={k: v for k, v in os.environ.items() if not k.startswith("EVENTFLEET_")},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError:
        raise ContenderFailed(f"{contender} did not end within {timeout:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        output = err.decode(errors="replace")
        raise ContenderFailed(f"{contender} ended with status {process.returncode}:\n{output}")
    return _read_result(contender, task, out, err)


def _read_result(contender: str, task: ContenderTask, out: bytes, err: bytes) -> Result:
    try:
        result = Result.decode(out)
    except msgspec.MsgspecError as error:
        output = (out + err).decode(errors="replace")
        raise ContenderFailed(f"{contender} printed no result ({error}):\n{output}") from None
    expected = task.extra.get("value_bytes", result.value_bytes)
    if result.events != task.records or result.value_bytes != expected:
        found = f"{result.events} records with {result.value_bytes} bytes"
        raise ContenderFailed(
            f"{contender} read {found}; expected {task.records} with {expected} bytes"
        )
    return result
