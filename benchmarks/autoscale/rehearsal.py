"""Runs the steps of a rehearsal: load, lag, and the workers that the lag calls for."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial

import click
from aiokafka.errors import KafkaError

from benchmarks.autoscale.group_lag import GroupLag, open_group_lag
from benchmarks.autoscale.load import CommandLoad
from benchmarks.autoscale.workload import StepFigures, Workload
from benchmarks.contenders.command_data import age_redis
from benchmarks.scale import TOPIC_KINDS
from eventfleet.runtime import connections
from eventfleet.stores.errors import ServerUnavailable
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.kafka_by_hand import wait_for

POLL_SECONDS = 0.5
DRAIN_SECONDS = 180.0
"""How much longer than planned a step may last, until its lag is drained."""
STOP_SECONDS = 60.0


class Rehearsal:
    """One run: the workloads, scaled each `sync_seconds`, and the load."""

    def __init__(
        self, fleet: CommandFleet, workloads: Sequence[Workload], sync_seconds: float
    ) -> None:
        self.figures: list[StepFigures] = []
        self.replies = 0
        self.idle_lag: dict[str, int] = {}
        self._fleet, self._workloads, self._sync_seconds = fleet, workloads, sync_seconds

    async def run(self, rates: Sequence[int], step_seconds: float) -> CommandLoad:
        """Run all steps, then wait until nothing is left to do, and stop the workers."""
        settings = self._fleet.settings
        await age_redis(settings)
        await self._start()
        async with (
            connections.log_writer(settings) as writer,
            open_group_lag(settings) as lag,
        ):
            load = CommandLoad(writer)
            tasks = [
                asyncio.create_task(load.run()),
                *(asyncio.create_task(self._control(each, lag)) for each in self._workloads),
            ]
            try:
                for rate in rates:
                    load.set_rate(rate)
                    await self._run_step(rate, step_seconds, rate == rates[-1], tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self._settle)
            for role, kind in TOPIC_KINDS.items():
                lags = await lag.read(self._fleet.group(role), self._fleet.topic(kind))
                self.idle_lag[role] = sum(lags)
        await self._stop()
        return load

    async def _start(self) -> None:
        for workload in self._workloads:
            workload.run(1)
        for workload in self._workloads:
            ready = workload.workers[0].ready
            await asyncio.to_thread(wait_for, ready, f"{workload.role} to be ready")

    async def _control(self, workload: Workload, lag: GroupLag) -> None:
        """Scale a workload until cancelled; a lag that can't be read changes nothing."""
        group = self._fleet.group(workload.role)
        topic = self._fleet.topic(TOPIC_KINDS[workload.role])
        while True:
            try:
                workload.scale(await lag.read(group, topic))
            except (KafkaError, ServerUnavailable) as error:
                click.echo(f"the lag of {group} is unknown: {error}", err=True)
            await asyncio.to_thread(workload.note_ready)
            workload.check_processes()
            await asyncio.sleep(self._sync_seconds)

    async def _run_step(
        self, rate: int, seconds: float, is_last: bool, tasks: Sequence[asyncio.Task[None]]
    ) -> None:
        for workload in self._workloads:
            workload.begin_step(rate)
        planned = time.monotonic() + seconds
        while not self._is_over(planned, is_last):
            await asyncio.sleep(POLL_SECONDS)
            for task in tasks:
                if task.done():
                    task.result()
        steps = [workload.end_step() for workload in self._workloads]
        for step in steps:
            click.echo(f"{step.seconds:.0f} s: {step}", err=True)
        self.figures += steps

    def _is_over(self, planned: float, is_last: bool) -> bool:
        """Check for the planned end, and that lags are drained; at last, for single workers, too.

        A step that has lasted DRAIN_SECONDS longer is over in any case.
        """
        now = time.monotonic()
        drained = all(workload.is_drained for workload in self._workloads)
        single = all(len(workload.workers) == 1 for workload in self._workloads)
        return now >= planned + DRAIN_SECONDS or (
            now >= planned and drained and (single or not is_last)
        )

    def _settle(self) -> None:
        """Wait until every role has passed all that is in its topic, and count the replies."""
        for role in TOPIC_KINDS:
            group, topic = self._fleet.group(role), self._fleet.topic(TOPIC_KINDS[role])
            wait_for(partial(self._is_caught_up, group, topic), f"{role} to catch up")
        self.replies = len(self._fleet.kafka.records(self._fleet.topic("replies")))

    def _is_caught_up(self, group: str, topic: str) -> bool:
        return not self._fleet.kafka.waiting(group, topic)

    async def _stop(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        for workload in self._workloads:
            workload.run(0)
        while any(workload.is_stopping for workload in self._workloads):
            for workload in self._workloads:
                workload.check_processes()
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(POLL_SECONDS)
