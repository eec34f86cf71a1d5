"""The claims that bind a token to aggregates: lists of texts `DOMAIN:ID` and `DOMAIN:PREFIX`."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from eventfleet.stores.contracts.views import AggregateSelection
from eventfleet.topics.values import MAX_ID_CHARS

IDS_CLAIM, PREFIXES_CLAIM = "aggregate_ids", "aggregate_prefixes"


def bound_aggregates(claims: Mapping[str, Any]) -> dict[str, AggregateSelection] | None:
    """Returns the aggregates that claims bind to, by domain or `*`; None: there is no such claim.

    A claim of a similar name may be a misspelled one, so it is refused, too: ValueError.
    """
    named = [name for name in claims if name.lower().startswith("aggregate")]
    if not named:
        return None
    if unknown := sorted({*named} - {IDS_CLAIM, PREFIXES_CLAIM}):
        raise ValueError(
            f"the claim {unknown[0]} is unknown; known are {IDS_CLAIM} and {PREFIXES_CLAIM}"
        )
    ids, prefixes = _texts(claims, IDS_CLAIM), _texts(claims, PREFIXES_CLAIM)
    return {
        domain: AggregateSelection(frozenset(ids[domain]), tuple(prefixes[domain]))
        for domain in {*ids, *prefixes}
    }


def _texts(claims: Mapping[str, Any], name: str) -> defaultdict[str, list[str]]:
    """Returns the texts of a claim by domain."""
    by_domain: defaultdict[str, list[str]] = defaultdict(list)
    entries = claims.get(name, [])
    if not isinstance(entries, list):
        raise ValueError(f"the claim {name} is not a list of strings")
    for entry in entries:
        domain, _, text = entry.partition(":") if isinstance(entry, str) else ("", "", "")
        if not domain or not text or len(text) > MAX_ID_CHARS or "\0" in text:
            raise ValueError(
                f"the claim {name} has {entry!r:.80}: not a domain, a colon, and 1 to "
                f"{MAX_ID_CHARS} characters without NUL"
            )
        text.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
        by_domain[domain].append(text)
    return by_domain
