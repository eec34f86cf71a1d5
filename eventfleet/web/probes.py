"""Operations on the service itself: probes, metrics and the OpenAPI document."""

from collections.abc import Callable

from starlette.responses import PlainTextResponse, Response

from eventfleet.stores.background_task import BackgroundTask, background_tasks
from eventfleet.stores.gaps import gaps
from eventfleet.web.context import RequestContext
from eventfleet.web.metrics import HttpMetrics
from eventfleet.web.operation import Handler, Operation, Right
from eventfleet.web.problems import UNAVAILABLE, RequestRefused
from eventfleet.web.readiness import Readiness
from eventfleet.web.responses import json_response

PAGES = ("live", "ready", "metrics")
"""The operations that a process serves at a port of their own, too."""

PATHS = frozenset(f"/{name}" for name in PAGES)

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def operations(
    metrics: HttpMetrics, readiness: Readiness, openapi_document: Callable[[str], object]
) -> list[Operation]:
    """Declares the operations. `openapi_document` takes the path that the service is mounted at."""

    async def live(context: RequestContext) -> Response:
        """Answers while the process is alive."""
        return PlainTextResponse("ok\n")

    async def ready(context: RequestContext) -> Response:
        """Answers with 200 when the servers that commands and queries need answer, and take what
        commands write.

        Names each background task that fails; without an essential one the service is not ready.
        It names each bus whose events may be lost, too.
        """
        if faults := await readiness.faults():
            servers = " and ".join(f"{name} {fault.kind}" for name, fault in faults.items())
            raise RequestRefused(UNAVAILABLE, f"{servers}; the log has the reason")
        failing = [task for task in background_tasks() if task.problem]
        failures = " and ".join(map(_failure, failing))
        if any(task.essential for task in failing):
            raise RequestRefused(UNAVAILABLE, f"{failures}; the log has the reason")
        told = [failures] if failing else []
        told += [f"{gap.place} {gap.text}" for gap in gaps()]
        return PlainTextResponse(f"ok, but {'; '.join(told)}\n" if told else "ok\n")

    async def prometheus(context: RequestContext) -> Response:
        """Returns the metrics in Prometheus' text format."""
        return Response(metrics.render(), media_type=PROMETHEUS_TEXT)

    async def openapi(context: RequestContext) -> Response:
        """Returns this OpenAPI document."""
        return json_response(openapi_document(context.request.scope.get("root_path", "")))

    return [
        _plain_text("live", "", live),
        _plain_text("ready", "", ready),
        _plain_text("metrics", "metrics", prometheus),
        Operation("openapi", "GET", "/openapi.json", "token", openapi, {200: dict}),
    ]


def _failure(task: BackgroundTask) -> str:
    since = task.failing_since
    return f"{task.name} failed" + (f", since {since:%Y-%m-%dT%H:%M:%SZ}" if since else "")


def _plain_text(name: str, right: Right, handler: Handler) -> Operation:
    return Operation(name, "GET", f"/{name}", right, handler, {200: str}, limited=False)
