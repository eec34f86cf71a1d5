"""Operations on the service itself: probes, metrics and the OpenAPI document."""

from collections.abc import Callable

from starlette.responses import PlainTextResponse, Response

from eventfleet.stores.background_task import background_tasks
from eventfleet.stores.gaps import gaps
from eventfleet.stores.readiness_report import (
    NOT_READY,
    READY,
    ReadinessReason,
    ReadinessReport,
    gap_reason,
    task_reason,
    topic_reason,
)
from eventfleet.stores.topic_faults import topic_faults
from eventfleet.web.context import RequestContext
from eventfleet.web.metrics import HttpMetrics
from eventfleet.web.operation import Handler, Operation, Right
from eventfleet.web.problems import UNAVAILABLE
from eventfleet.web.readiness import Readiness
from eventfleet.web.responses import JsonResponse, json_response

PAGES = ("live", "ready", "metrics")
"""The operations that a process serves at a port of their own, too."""

PATHS = frozenset(f"/{name}" for name in PAGES)

READINESS = {READY: ReadinessReport, NOT_READY: ReadinessReport}
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

        The reasons name each background task that fails; without an essential one the service is
        not ready. They name each bus whose events may be lost, and each topic that is not as its
        domain needs it, too. The log has more about each. Callers without the scope to operate all
        domains get the kinds of the reasons alone.
        """
        report = ReadinessReport.of(
            [
                ReadinessReason(
                    kind="server", reason=f"{name} {fault.kind}", blocking=True, since=fault.since
                )
                for name, fault in (await readiness.faults()).items()
            ],
            [task_reason(t, f"{t.name} failed") for t in background_tasks() if t.problem],
            [gap_reason(gap) for gap in gaps()],
            [topic_reason(fault) for fault in topic_faults()],
        )
        if not context.grant.operates_all(context.domains):
            report = report.without_names()
        headers = UNAVAILABLE.headers if report.http_status == NOT_READY else None
        return JsonResponse(report.encode(), report.http_status, headers)

    async def prometheus(context: RequestContext) -> Response:
        """Returns the metrics in Prometheus' text format."""
        return Response(metrics.render(), media_type=PROMETHEUS_TEXT)

    async def openapi(context: RequestContext) -> Response:
        """Returns this OpenAPI document."""
        return json_response(openapi_document(context.request.scope.get("root_path", "")))

    return [
        _plain_text("live", "", live),
        Operation(
            "ready", "GET", "/ready", "optional", ready, READINESS, limited=False, keeps_bounds=True
        ),
        _plain_text("metrics", "metrics", prometheus),
        Operation(
            "openapi", "GET", "/openapi.json", "token", openapi, {200: dict}, keeps_bounds=True
        ),
    ]


def _plain_text(name: str, right: Right, handler: Handler) -> Operation:
    return Operation(name, "GET", f"/{name}", right, handler, {200: str}, limited=False)
