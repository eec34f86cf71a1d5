"""The description of the HTTP service, for tests of it."""

from typing import Any

from eventfleet.domains.orders import orders
from eventfleet.model.domain import Domain
from tests.unit.http_fixture import token, web


async def document(domain: Domain[Any] = orders, **named: Any) -> Any:
    async with web(domain, **named) as shop:
        headers = {"authorization": f"Bearer {token()}"}
        return (await shop.client.get("/openapi.json", headers=headers)).json()


def schema(document: Any, *path: str) -> Any:
    """One that can be asked, with all that it refers to."""
    found = document["paths"]
    for step in path:
        found = found[step]
    return {**found, "components": document["components"]}


JSON = "application/json", "schema"
