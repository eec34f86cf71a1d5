"""The HTTP server of a worker process: /metrics, /live and /ready."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from eventfleet.stores.background_task import background_tasks
from eventfleet.stores.gaps import gaps
from eventfleet.stores.readiness_report import (
    ReadinessReason,
    ReadinessReport,
    gap_reason,
    task_reason,
    topic_reason,
)
from eventfleet.stores.refusals import refused_operations
from eventfleet.stores.topic_faults import topic_faults
from eventfleet.topics.errors import EventfleetError
from eventfleet.workers.app import RoleApp
from eventfleet.workers.metrics import Metrics

MAX_STALL_SECONDS = 60.0


class HealthServerNotStarted(EventfleetError):
    """The address of the health server is taken or not allowed."""


class HealthServer:
    """Serves the metrics, liveness and readiness of some apps.

    `/live` fails when a partition with waiting records makes no progress for `bound` seconds;
    `/ready` while one is not open or a server refuses what every command needs. Its reasons name
    the partitions that a fault has stopped, each background task that fails, and, though that makes
    nothing unready, what is parked, which builds of views are held, each bus whose events may be
    lost, and each topic that is not as its domain needs it.
    """

    def __init__(
        self, metrics: Metrics, apps: Sequence[RoleApp], bound: float = MAX_STALL_SECONDS
    ) -> None:
        self._metrics = metrics
        self._apps = apps
        self._bound = bound

    @asynccontextmanager
    async def served(self, host: str, port: int) -> AsyncIterator[str]:
        """Serve within the block; its value is the URL. HealthServerNotStarted: no such address."""
        runner = web.AppRunner(self._routes(), access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            try:
                await site.start()
            except OSError as error:
                raise HealthServerNotStarted(
                    f"the health server can't listen on {host}:{port} ({error.strerror}); "
                    "set EVENTFLEET_METRICS_PORT to another port, or to 0 for any free one"
                ) from error
            yield f"http://{host}:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    def _routes(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/metrics", self._read_metrics)
        app.router.add_get("/live", self._live)
        app.router.add_get("/ready", self._ready)
        return app

    async def _read_metrics(self, request: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._metrics.render(), headers=headers)

    async def _live(self, request: web.Request) -> web.Response:
        problems = [problem for app in self._apps for problem in app.problems(self._bound)]
        text = "".join(f"{line}\n" for line in problems or ["ok"])
        return web.Response(status=503 if problems else 200, text=text)

    async def _ready(self, request: web.Request) -> web.Response:
        report = ReadinessReport.of(
            *(app.obstacles() for app in self._apps),
            [
                ReadinessReason(kind="server", reason=refused, blocking=True)
                for refused in refused_operations()
            ],
            [task_reason(task, task.problem) for task in background_tasks() if task.problem],
            self._metrics.parked_aggregates(),
            self._metrics.held_builds(),
            [gap_reason(gap) for gap in gaps()],
            [topic_reason(fault) for fault in topic_faults()],
        )
        return web.Response(
            status=report.http_status, body=report.encode(), content_type="application/json"
        )
