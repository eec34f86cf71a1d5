"""Errors of opening what the settings name; free of drivers, so that any program may catch them."""

from collections.abc import Iterable

from eventfleet.runtime.settings import SettingsError, variable
from eventfleet.topics.errors import EventfleetError


class NoDomains(SettingsError):
    """The setting `domains` is empty."""

    def __init__(self) -> None:
        super().__init__(
            f"{variable('domains')} is not set: name the modules that declare your domains, "
            f"comma-separated, such as {variable('domains')}=shop.orders,shop.parcels; "
            "`eventfleet up` runs the sample domains without it"
        )


class UnknownDomain(EventfleetError):
    """No module of the setting `domains` declares a domain of this name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(
            f"there is no domain {name!r}: {variable('domains')} declares "
            f"{', '.join(sorted(known))}"
        )


class Unreachable(EventfleetError):
    """A server does not answer when it is first connected to."""

    def __init__(self, server: str, address: str, setting: str, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{server} does not answer at {address} ({reason}): start it, or name another in "
            f"{variable(setting)}; `eventfleet up` starts embedded servers"
        )
