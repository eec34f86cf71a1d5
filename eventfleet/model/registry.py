"""Finding domains by dotted module names, so that a team's own package works unchanged."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from eventfleet.model.domain import DeclarationError, Domain


def find_domains(modules: Iterable[str]) -> dict[str, Domain[Any]]:
    """Every Domain in these modules, by name.

    DeclarationError for a module that can't be imported or has none, and for two of one name.
    """
    found: dict[str, Domain[Any]] = {}
    for module in modules:
        for domain in _declared_in(module):
            if found.setdefault(domain.name, domain) is not domain:
                raise DeclarationError(f"{module}: a domain {domain.name!r} is declared already")
    return found


def _declared_in(module: str) -> list[Domain[Any]]:
    try:
        names = vars(import_module(module))
    except DeclarationError as error:
        raise DeclarationError(f"{module}: {error}") from error
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise DeclarationError(f"{module}: can't be imported: {why}") from error
    domains = [value for value in names.values() if isinstance(value, Domain)]
    if not domains:
        raise DeclarationError(f"{module}: declares no Domain")
    return domains
