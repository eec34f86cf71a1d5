"""Errors of opening what the settings name; free of drivers, so that any program may catch them."""

from eventfleet.runtime.settings import variable
from eventfleet.topics.errors import EventfleetError


class UnknownDomain(EventfleetError):
    """No module of the setting `domains` declares a domain of this name."""


class Unreachable(EventfleetError):
    """A server does not answer when it is first connected to."""

    def __init__(self, server: str, where: str, setting: str, reason: str) -> None:
        hint = f"start it, or name another in {variable(setting)}; `make run` starts embedded ones"
        super().__init__(f"{server} does not answer at {where} ({reason}): {hint}")
