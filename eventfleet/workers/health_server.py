"""The page of a process: /metrics, /live and /ready."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from eventfleet.topics.errors import EventfleetError
from eventfleet.workers.app import RoleApp
from eventfleet.workers.metrics import Metrics

WITHOUT_PROGRESS = 60.0


class HealthServerNotStarted(EventfleetError):
    """The page's address can't be had."""


class HealthServer:
    """Answers for some apps; `/live` fails after `bound` seconds without progress."""

    def __init__(
        self, metrics: Metrics, apps: Sequence[RoleApp], bound: float = WITHOUT_PROGRESS
    ) -> None:
        self._metrics = metrics
        self._apps = apps
        self._bound = bound

    @asynccontextmanager
    async def served(self, host: str, port: int) -> AsyncIterator[str]:
        """The page's URL, while it is served. PageNotOpened when the address is taken."""
        runner = web.AppRunner(self._routes(), access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            try:
                await site.start()
            except OSError as error:
                hint = "another port is chosen by EVENTFLEET_METRICS_PORT, any free one by 0"
                raise HealthServerNotStarted(
                    f"the worker's page can't be opened at {host}:{port} ({error.strerror}); {hint}"
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
        return web.Response(body=self._metrics.page(), headers=headers)

    async def _live(self, request: web.Request) -> web.Response:
        return _answer([trouble for app in self._apps for trouble in app.troubles(self._bound)])

    async def _ready(self, request: web.Request) -> web.Response:
        return _answer([f"{app.duty}: not ready" for app in self._apps if not app.ready])


def _answer(troubles: list[str]) -> web.Response:
    if troubles:
        return web.Response(status=503, text="\n".join(troubles) + "\n")
    return web.Response(text="ok\n")
