"""A bare handler of the same stack for one connection: each command is decided by itself, with the
calls of the hand-written lone caller."""

from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.contenders.command_loop import encode
from benchmarks.contenders.http_data import serve_and_measure
from benchmarks.contenders.lone_command_loop import LoneCaller, open_lone_caller
from benchmarks.contenders.task import ContenderTask, read_task, run, write_result


def make_handler(caller: LoneCaller) -> Any:
    async def handle(request: Request) -> Response:
        subject, name = request.path_params["id"], request.path_params["command"]
        try:
            reply = await caller.send(subject, name, await request.body())
        except msgspec.DecodeError as error:
            return Response(str(error), 422)
        return Response(encode(reply), 202, media_type="application/json")

    return handle


async def main(task: ContenderTask) -> None:
    path = f"/domains/{task.domain}/{{id}}/commands/{{command}}"
    async with open_lone_caller(task) as caller:
        app = Starlette(routes=[Route(path, make_handler(caller), methods=["POST"])])
        result = await serve_and_measure(task, app, {})
    write_result(result)


if __name__ == "__main__":
    run(main(read_task()))
