"""Operations of a team's own: found by the setting, served for the domains that are served."""

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from eventfleet.model.errors import DeclarationError
from eventfleet.runtime import http_server
from eventfleet.runtime.http_server import http_application, select_operations
from eventfleet.runtime.settings import Settings
from examples.chat import rooms
from tests.unit.public_faces import FACES

CHAT = Path(rooms.__file__).parent


def test_a_modules_operations_and_socket_paths_are_found() -> None:
    found = select_operations(Settings(http_operations="examples.chat.rooms"))
    assert found == [rooms.MESSAGES, rooms.ROOM, rooms.HISTORY, rooms.SOCKET]
    assert select_operations(Settings()) == []


def test_a_module_without_operations_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"^examples\.chat\.domain: declares no Operation$"):
        select_operations(Settings(http_operations="examples.chat.domain"))


async def test_operations_of_domains_that_are_not_served_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(http_server, "Application", lambda *parts, **_: given.extend(parts[-2:]))
    for name in ("stage_waiters", "server_checks"):
        monkeypatch.setattr(http_server, name, lambda *_: nullcontext())
    monkeypatch.setattr(http_server, "followed_domains", lambda *_: nullcontext({}))
    monkeypatch.setattr(http_server.connections, "stores", lambda *_, **__: nullcontext({}))
    own = rooms.ROOM._replace(path="/rooms", domain="")
    async with http_application(Settings(), {}, operations=[rooms.ROOM, own, rooms.SOCKET]):
        assert given == [[own], {}]


def test_the_chat_is_written_with_public_modules_alone() -> None:
    code = "".join(path.read_text() for path in CHAT.glob("*.py"))
    imported = set(re.findall(r"^(?:from|import) (eventfleet[\w.]*)", code, re.MULTILINE))
    assert {"eventfleet", "eventfleet.http", "eventfleet.queries"} == imported
    assert imported <= {f"eventfleet{face}" for face in FACES}
