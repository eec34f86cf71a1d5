"""Finds declarations by dotted module names, so that a team's own package works unchanged."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any, TypeVar

from eventfleet.model.domain import Domain
from eventfleet.model.errors import DeclarationError
from eventfleet.model.team_traceback import describe_error, team_place

T = TypeVar("T")


def find_domains(modules: Iterable[str]) -> dict[str, Domain[Any]]:
    """Import these modules, and return every Domain in them by name.

    DeclarationError: a module can't be imported or declares no Domain, or two domains share a name.
    """
    found: dict[str, Domain[Any]] = {}
    for module in modules:
        for domain in find_declared(module, Domain):
            if found.setdefault(domain.name, domain) is not domain:
                raise DeclarationError(
                    f"{module}: another module declares a domain {domain.name!r}, too"
                )
    return found


def find_declared(module: str, *kinds: type[T]) -> list[T]:
    """Import a module, and return the values of these classes in it.

    DeclarationError: it can't be imported or has none.
    """
    try:
        names = vars(import_module(module))
    except DeclarationError as error:
        place = team_place(error)
        raise DeclarationError(f"{module}: {error}{f' ({place})' if place else ''}") from error
    except Exception as error:
        why = describe_error(error)
        raise DeclarationError(f"{module}: can't be imported: {why}") from error
    found = [value for value in names.values() if isinstance(value, kinds)]
    if not found:
        raise DeclarationError(f"{module}: declares no {kinds[0].__name__}")
    return found
