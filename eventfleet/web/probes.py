"""What the service says of itself: its description, its metrics, that it is there."""

from collections.abc import Callable

from starlette.responses import PlainTextResponse, Response

from eventfleet.web.metrics import HttpMetrics
from eventfleet.web.operation import Handle, Operation, RequestContext, Right, json

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def operations(metrics: HttpMetrics, description: Callable[[str], object]) -> list[Operation]:
    """`description` answers with the OpenAPI document, for a path in front of all others."""

    async def live(call: RequestContext) -> Response:
        """Whether the process answers."""
        return PlainTextResponse("ok\n")

    async def ready(call: RequestContext) -> Response:
        """Whether requests are taken: from the start on, for the servers were found by then."""
        return PlainTextResponse("ok\n")

    async def page(call: RequestContext) -> Response:
        """Metrics in Prometheus' text format."""
        return Response(metrics.page(), media_type=PROMETHEUS)

    async def openapi(call: RequestContext) -> Response:
        """The description of the service: OpenAPI 3.1."""
        return json(description(call.request.scope.get("root_path", "")))

    return [
        _own("live", "", live),
        _own("ready", "", ready),
        _own("metrics", "everything", page),
        Operation("openapi", "GET", "/openapi.json", "token", openapi, {200: dict}),
    ]


def _own(name: str, right: Right, handle: Handle) -> Operation:
    return Operation(name, "GET", f"/{name}", right, handle, {200: str})
