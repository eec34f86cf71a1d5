"""A process of `eventfleet serve`, and clients of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from eventfleet.runtime.settings import PREFIX
from tests.acceptance.fleet import TIMEOUT_SECONDS
from tests.acceptance.kafka_by_hand import wait_for
from tests.program import start_program


class HttpService:
    """A process of the service; its log is shown if it does not become ready."""

    def __init__(
        self,
        environment: Mapping[str, str],
        folder: Path,
        *names: str,
        log: str = "service.log",
    ) -> None:
        self.log = folder / log
        own = {f"{PREFIX}HTTP_PORT": "0", **environment}
        self.process = start_program(["serve", *names], own, folder, self.log)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def url(self) -> str:
        _, _, rest = self.said().partition(" at http")
        return f"http{rest.split()[0]}" if "\n" in rest else ""

    def ready(self) -> bool:
        status = self.process.poll()
        assert status is None, f"the service ended with status {status}:\n{self.said()}"
        try:
            return bool(self.url) and httpx.get(f"{self.url}/ready").status_code == 200
        except httpx.TransportError:
            return False

    def client(self, token: str = "") -> httpx.Client:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT_SECONDS)

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit status."""
        self.process.terminate()
        return self.process.wait(TIMEOUT_SECONDS)


@contextmanager
def serving(
    environment: Mapping[str, str], folder: Path, *names: str, log: str = "service.log"
) -> Iterator[HttpService]:
    service = HttpService(environment, folder, *names, log=log)
    try:
        wait_for(service.ready, "the service to be ready")
        yield service
    finally:
        service.process.kill()
        service.process.wait(TIMEOUT_SECONDS)


def sent(client: httpx.Client, path: str, body: Any, **headers: str) -> httpx.Response:
    """Sends a command to `domain/id/command`."""
    domain, aggregate_id, command = path.split("/")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"/domains/{domain}/{aggregate_id}/commands/{command}"
    return client.post(url, json=body, headers=named)
