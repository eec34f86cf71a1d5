"""Errors of opening what the settings name; free of drivers, so that any program may catch them."""

from collections.abc import Iterable

from eventfleet.runtime.settings import SettingsError, variable
from eventfleet.stores.errors import AccessFault, AccessRefused
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
    """A server does not answer when it is first connected to.

    One that has `hung_up` perhaps speaks TLS where the settings do not, or the reverse.
    """

    def __init__(
        self, server: str, address: str, setting: str, reason: str, *, hung_up: bool = False
    ) -> None:
        settings = _settings(server, setting, AccessFault.PROTOCOL)
        look = f"if it is up, compare its listener with {settings}"
        start = f"start it, or name another in {variable(setting)}; `eventfleet up` needs none"
        self.reason = f"{reason}; {look}" if hung_up else reason
        super().__init__(
            f"{server} does not answer at {address} ({reason}): {look if hung_up else start}"
        )


class ServerRefused(AccessRefused):
    """A server does not let this process in, when it is first connected to."""

    def __init__(self, server: str, address: str, setting: str, error: AccessRefused) -> None:
        look = _settings(server, setting, error.access)
        super().__init__(f"{server} at {address}", f"{error.reason}; see {look}", error.access)


KAFKA_SETTINGS = {
    AccessFault.CREDENTIALS: ("kafka_username", "kafka_password", "kafka_sasl_mechanism"),
    AccessFault.CERTIFICATE: ("kafka_ca_file", "kafka_brokers"),
    AccessFault.PROTOCOL: ("kafka_security", "kafka_sasl_mechanism"),
    AccessFault.RIGHT: ("kafka_username",),
}


def _settings(server: str, setting: str, access: AccessFault) -> str:
    """The variables to look at; those of the other servers are all parts of their URLs."""
    names = KAFKA_SETTINGS[access] if server == "Kafka" else (setting,)
    return ", ".join(map(variable, names))
