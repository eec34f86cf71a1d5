"""The one place that makes things from the settings: domains, stores, the log."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from domains.declaration import Domain
from domains.registry import find_domains
from topics.declaration import TopicSpec, declare
from topics.errors import EventfleetError
from workers.settings import Settings, split

HOUR_MS = 3_600_000


class UnknownDomain(EventfleetError):
    """No module of the setting `domains` declares it."""


def chosen(settings: Settings, names: Iterable[str]) -> dict[str, Domain[Any]]:
    """The domains of these names, or all of them where none is named."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    known = find_domains(split(settings.domains))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UnknownDomain(f"no domain {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return {name: known[name] for name in names} or known


def topics_of(settings: Settings, domain: Domain[Any]) -> list[TopicSpec]:
    """The topics of a domain, as the settings want them."""
    hours = settings.retention_hours
    retention_ms = hours if hours < 0 else hours * HOUR_MS
    return declare(domain.name, settings.partitions, settings.replication, retention_ms)
