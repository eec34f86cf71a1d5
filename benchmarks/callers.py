"""`python -m benchmarks.callers` times a caller's commands beside another who takes all it is let.

Both have tokens of one service process. The other one opens waits, slow streams and sockets until
it is refused, and again whatever ends. The caller's commands, one after the other, are timed before
it comes, beside it, and when it has left.
"""

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from uuid import uuid4

import click
import httpx
from joserfc import jwt
from joserfc.jwk import OctKey

from benchmarks.scenario import ServerAddresses
from benchmarks.servers import provide_servers
from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.greedy_caller import GreedyCaller
from tests.acceptance.http_service import serving

MAX_RATIO = 3.0
MESSAGES = 600
"""More than a connection's buffers have room for."""

SECRET = "a secret of more than 32 characters"
VALID_SECONDS = 86_400


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seconds", envvar="SECONDS", default=20.0, show_default=True, help="Of each part.")
def main(seconds: float) -> None:
    """Time a token's commands at rest and beside a greedy one.

    The exit status is 1 when their 99th percentile is more than three times that at rest.
    """
    with provide_servers() as servers, TemporaryDirectory(prefix="eventfleet-callers-") as folder:
        ratio = _compare(servers, Path(folder), seconds)
    raise SystemExit(ratio > MAX_RATIO)


def _compare(servers: ServerAddresses, folder: Path, seconds: float) -> float:
    key = folder / "key"
    key.write_text(f"{SECRET}\n")
    addresses = servers.kafka, servers.mongo_url, servers.redis_url
    settings = {"TOKEN_KEY_FILE": str(key)}
    with CommandFleet(addresses, folder, "examples.chat", **settings) as fleet:
        fleet.start("append")
        with serving(fleet.environment, folder) as service:
            return asyncio.run(_measure(service.url, seconds))


async def _measure(url: str, seconds: float) -> float:
    greedy = _token("greedy")
    await GreedyCaller(url, greedy).fill_room(MESSAGES)
    headers = {"Authorization": f"Bearer {_token('ben')}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        await _commands(client, seconds / 4)
        before = await _commands(client, seconds)
        async with _greedy_process(url, greedy) as held:
            beside = await _commands(client, seconds)
        after = await _commands(client, seconds)
    rest = before + after
    ratio = _percentile(beside) / _percentile(rest)
    click.echo(
        f"99 % of {len(rest)} commands within {_percentile(rest) * 1e3:.1f} ms at rest "
        f"({_percentile(before) * 1e3:.1f} before, {_percentile(after) * 1e3:.1f} after), of "
        f"{len(beside)} within {_percentile(beside) * 1e3:.1f} ms beside a token that holds "
        f"{held}: {ratio:.1f} times (at most {MAX_RATIO:g})"
    )
    return ratio


def _token(subject: str) -> str:
    claims = {
        "sub": subject,
        "scope": "chat:read chat:write",
        "exp": int(time.time()) + VALID_SECONDS,
    }
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))


@asynccontextmanager
async def _greedy_process(url: str, token: str) -> AsyncIterator[str]:
    """Run a greedy caller; the value is what it holds once each kind was refused."""
    command = [sys.executable, "-m", "tests.acceptance.greedy_caller", url, token]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    try:
        assert process.stdout is not None
        held = json.loads(await process.stdout.readline())
        yield ", ".join(f"{number} {kind}" for kind, number in sorted(held.items()))
    finally:
        process.kill()
        await process.wait()


async def _commands(client: httpx.AsyncClient, seconds: float) -> list[float]:
    """Send commands for some seconds, one after the other; the seconds of each."""
    found, end = list[float](), time.monotonic() + seconds
    while (start := time.monotonic()) < end:
        path = f"/domains/chat/ben-{uuid4().hex}/commands/SendMessage"
        sent = await client.post(path, json={"content": "hi"})
        if sent.status_code != httpx.codes.OK:
            raise RuntimeError(f"status {sent.status_code}: {sent.text}")
        found.append(time.monotonic() - start)
    return found


def _percentile(seconds: list[float]) -> float:
    return quantiles(seconds, n=100)[-1]


if __name__ == "__main__":
    main()
