"""The guide to HTTP: a first token, by its own script and commands."""

import json
import os
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import ROOT
from tests.acceptance.terminal import Terminal
from tests.servers.server import free_port

GUIDE = (ROOT / "docs" / "guides" / "http.md").read_text()
[SECTION] = re.findall(r"### A first token\n(.*?)\n### ", GUIDE, re.DOTALL)
[SCRIPT] = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
[COMMANDS] = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
ASKED = "curl -s -o /dev/null -w '%{http_code}' $at/domains/"


def test_a_key_of_ones_own_signs_a_token_that_opens_what_it_says(
    kafka: str, mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    servers = kafka, mongo_url, redis_url
    with CommandFleet(servers, tmp_path, "eventfleet.domains.orders") as fleet:
        (tmp_path / "first_token.py").write_text(SCRIPT)
        terminal, port = Terminal(tmp_path), str(free_port())
        own = {k: v for k, v in fleet.environment.items() if k.startswith("EVENTFLEET_")}
        terminal.environment |= own | {"PYTHONPATH": str(ROOT), "EVENTFLEET_HTTP_PORT": port}
        lines = f"{COMMANDS.replace('8080', port)}\nwait"
        with subprocess.Popen(
            ["bash", "-ec", lines],
            cwd=tmp_path,
            env=terminal.environment,
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as guide:
            try:
                assert guide.stdout
                answer = _answer(guide.stdout)
                assert json.loads(answer)["outcome"] == "accepted"
                terminal.environment["at"] = f"http://127.0.0.1:{port}"
                token = (tmp_path / "token.txt").read_text().strip()
                bearer = f"-H 'Authorization: Bearer {token}'"
                state = "orders/o-2/snapshot"
                assert terminal.run(ASKED + state) == "401"
                assert terminal.run(f"{ASKED}{state} {bearer}") == "404"
                listed = ASKED.replace("/domains/", "/dead-letters/orders")
                assert terminal.run(f"{listed} {bearer}") == "403"
                assert (tmp_path / "private-key.json").stat().st_mode & 0o777 == 0o600
                [key] = json.loads((tmp_path / "keys.json").read_text())["keys"]
                assert "d" not in key
                again = terminal.run('"$PYTHON" first_token.py').strip()
                assert terminal.run(f"{ASKED}{state} {bearer.replace(token, again)}") == "404"
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(guide.pid, signal.SIGTERM)


def _answer(printed: IO[bytes]) -> str:
    """What the guide's last command prints, behind the answers of `/ready`."""
    text = ""
    while chunk := os.read(printed.fileno(), 10_000):
        text += chunk.decode()
        if found := re.search(r'{"outcome":.*}', text):
            return found[0]
    return text
