"""Serves commands and queries over HTTP inside an application, for the application's own users.

Needs a running fleet; the settings in the environment name its domains (EVENTFLEET_DOMAINS) and
servers, as for `eventfleet`.
Then `curl -H 'X-User: ann' localhost:8000/events/domains`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from eventfleet.http import (
    TOKEN_REFUSED,
    Grant,
    RequestRefused,
    http_application,
    load_settings,
    select_domains,
)

USERS = {"ann": Grant("ann", frozenset({"orders:read", "orders:write"}))}


class Users:
    """Finds the user by a header; a real application would use its own session."""

    secured = False

    def grant(self, request: Request) -> Grant:
        user = request.headers.get("x-user", "")
        if user not in USERS:
            raise RequestRefused(TOKEN_REFUSED, "the header X-User names no user")
        return USERS[user]


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    settings = load_settings()
    domains = select_domains(settings, ["orders"])
    async with http_application(settings, domains, Users()) as events:
        app.mount("/events", events)
        yield


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse("our shop\n")


app = Starlette(routes=[Route("/", home)], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
