"""Access control: bearer tokens (JWT) with scopes: `orders:read`, `*:operate`, `metrics`."""

import logging
import re
from collections import OrderedDict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from joserfc import jws, jwt
from joserfc.errors import (
    BadSignatureError,
    InvalidKeyCurveError,
    InvalidKeyIdError,
    InvalidKeyTypeError,
    JoseError,
    UnsupportedKeyOperationError,
    UnsupportedKeyUseError,
)
from joserfc.jwk import Key
from starlette.requests import Request

from eventfleet.stores.contracts.views import AggregateSelection
from eventfleet.web.bound_aggregates import bound_aggregates
from eventfleet.web.key_file import InvalidKeyFile
from eventfleet.web.problems import (
    AGGREGATE_REFUSED,
    HOST_REFUSED,
    SCOPE_MISSING,
    TOKEN_REFUSED,
    RequestRefused,
)
from eventfleet.web.requests import raw_header

ALGORITHMS_BY_KEY_TYPE = {
    "oct": ["HS256", "HS384", "HS512"],
    "RSA": ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
    "EC": ["ES256", "ES384", "ES512"],
    "OKP": ["EdDSA", "Ed25519"],
}
OTHER_KEY_ERRORS = (
    BadSignatureError,
    InvalidKeyCurveError,
    InvalidKeyTypeError,
    UnsupportedKeyOperationError,
    UnsupportedKeyUseError,
)
"""A key has not signed the token, or can't sign by its algorithm: another one may have."""
LEEWAY_SECONDS = 30
MAX_CACHED_TOKENS = 1_000
ALL_DOMAINS = "*"
METRICS = "metrics"
"""The scope for the metrics; a domain's scopes have a colon."""

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{0,5})?")


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grant:
    """The rights of a caller. `actor` goes into the events of its commands; a token's subject.

    A caller that `names_actor` may name another: only where everybody may do everything. One that
    is `bound_to` aggregates, by domain or `*`, has its rights over these alone.
    """

    actor: str | None
    scopes: frozenset[str]
    names_actor: bool = False
    bound_to: Mapping[str, AggregateSelection] | None = None

    @property
    def caller(self) -> str | None:
        """Whose share of the limits a request takes: the subject's. All callers without one have a
        single share; and the limits have no shares where a caller names any actor."""
        return None if self.names_actor else self.actor or ""

    def allows(self, domain: str, right: str) -> bool:
        """Checks for the scope of this domain, or of all."""
        return not self.scopes.isdisjoint((f"{domain}:{right}", f"{ALL_DOMAINS}:{right}"))

    def operates_all(self, domains: Iterable[str]) -> bool:
        """Checks for the scopes to operate these domains, and for no bounds."""
        return self.bound_to is None and all(self.allows(each, "operate") for each in domains)

    def require(self, domain: str, right: str) -> None:
        """Raises RequestRefused without the scope."""
        if not self.allows(domain, right):
            raise _scope_missing(f"{domain}:{right}")

    def aggregates_of(self, domain: str) -> AggregateSelection | None:
        """Returns the aggregates of a domain that the caller is bound to; None: it is unbound."""
        if self.bound_to is None:
            return None
        found = [self.bound_to[name] for name in (domain, ALL_DOMAINS) if name in self.bound_to]
        ids = frozenset(id for each in found for id in each.ids)
        return AggregateSelection(ids, tuple(text for each in found for text in each.prefixes))

    def require_aggregate(self, domain: str, aggregate_id: str) -> None:
        """Raises RequestRefused for an aggregate beside those that the caller is bound to."""
        if self.bound_to is not None and not any(
            self.bound_to[name].selects(aggregate_id)
            for name in (domain, ALL_DOMAINS)
            if name in self.bound_to
        ):
            raise aggregate_refused(f"the caller's rights do not include {aggregate_id!r}")

    def require_metrics(self) -> None:
        """Raises RequestRefused without the scope for metrics, or that to read all domains."""
        if METRICS not in self.scopes and not self.allows(ALL_DOMAINS, "read"):
            raise _scope_missing(METRICS)


def aggregate_refused(detail: str) -> RequestRefused:
    """Returns the error for a caller that is bound to other aggregates."""
    headers = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
    return RequestRefused(AGGREGATE_REFUSED, detail, headers)


def _scope_missing(scope: str) -> RequestRefused:
    challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
    return RequestRefused(
        SCOPE_MISSING, f"the scope {scope} is required", {"WWW-Authenticate": challenge}
    )


UNRESTRICTED = Grant(
    None,
    frozenset(f"{ALL_DOMAINS}:{right}" for right in ("read", "write", "operate")),
    names_actor=True,
)
NOTHING = Grant(None, frozenset())
ANONYMOUS = Grant(None, UNRESTRICTED.scopes)
"""For operations that are open to everybody."""


class Access(Protocol):
    """Decides what the caller of a request may do. An application with its own users has its own
    implementation, whose `grant` may be a coroutine function."""

    secured: bool
    """True if callers send bearer tokens; the OpenAPI document then says so."""

    def grant(self, request: Request) -> Grant | Awaitable[Grant]:
        """Returns the caller's rights. RequestRefused: the caller is unknown."""


async def find_grant(access: Access, request: Request) -> Grant:
    """Returns the caller's rights, whichever kind of function says them."""
    found = access.grant(request)
    return found if isinstance(found, Grant) else await found


class KeySource(Protocol):
    """Keys that change: a file's, or a URL's."""

    def load(self) -> list[Key]:
        """Returns the keys."""

    def load_if_changed(self) -> list[Key] | None:
        """Returns the keys if they have changed."""


class OpenAccess:
    """Grants everything to everybody: for pages that no caller needs a token for."""

    secured = False

    def grant(self, request: Request) -> Grant:
        return UNRESTRICTED


class LocalAccess:
    """Grants everything to requests whose Host is a loopback name.

    A web page opened on this machine sends another Host, whatever name it gave to this address.
    """

    secured = False

    def grant(self, request: Request) -> Grant:
        hosts = [value for name, value in request.scope["headers"] if name == b"host"]
        if len(hosts) > 1:
            raise RequestRefused(HOST_REFUSED, f"there are {len(hosts)} Host headers")
        host = hosts[0].decode("latin-1") if hosts else ""
        if _host_name(host) not in LOOPBACK_NAMES:
            names = ", ".join(LOOPBACK_NAMES)
            raise RequestRefused(HOST_REFUSED, f"the host {host!r} is none of {names}")
        return UNRESTRICTED


def _host_name(host: str) -> str | None:
    """Returns the name of a Host header, which has no user as other parts of URLs may."""
    found = _HOST.fullmatch(host)
    return (found["address"] or found["name"]).lower() if found else None


class TokenAccess:
    """Verifies bearer tokens: signature, `exp` and `nbf`, and issuer and audience if given."""

    secured = True

    def __init__(
        self, key: Key | Sequence[Key] | KeySource, issuer: str = "", audience: str = ""
    ) -> None:
        """InvalidKeyFile: keys of a provider, which sign for others too, and no audience."""
        known = [key] if isinstance(key, Key) else key
        self._source = None if isinstance(known, Sequence) else known
        self._audience = audience
        self._use(known if isinstance(known, Sequence) else known.load())
        required: dict[str, Any] = {"exp": {"essential": True}}
        required |= {"iss": {"essential": True, "value": issuer}} if issuer else {}
        required |= {"aud": {"essential": True, "value": audience}} if audience else {}
        self._claims = jwt.JWTClaimsRegistry(leeway=LEEWAY_SECONDS, **required)

    def _use(self, keys: Sequence[Key]) -> None:
        if not self._audience and [each.key_type for each in keys] != ["oct"]:
            raise InvalidKeyFile(
                "EVENTFLEET_TOKEN_AUDIENCE is needed: keys other than a shared secret verify the "
                "tokens of all services of their issuer, not of this one alone"
            )
        self._keys = keys
        self._verified: OrderedDict[str, tuple[dict[str, Any], Grant]] = OrderedDict()

    def grant(self, request: Request) -> Grant:
        """Returns the rights of the token. RequestRefused: there is none that is valid now."""
        self._look_at_source()
        authorization = raw_header(request, "authorization") or ""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            detail = "the header `Authorization: Bearer TOKEN` is missing"
            raise RequestRefused(TOKEN_REFUSED, detail)
        try:
            claims, granted = self._verify(token.strip())
            self._claims.validate(claims)
            return granted
        except InvalidKeyIdError as error:  # it is the cause: the key may be known by and by
            raise _token_refused(str(error)) from error
        except (JoseError, ValueError) as error:
            reason = str(error)
        except Exception as error:
            # The library raises many other errors for what strangers send, such as RecursionError.
            reason = f"it cannot be read ({type(error).__name__})"
        raise _token_refused(reason)

    def _look_at_source(self) -> None:
        if self._source and (changed := self._source.load_if_changed()):
            try:
                self._use(changed)
            except InvalidKeyFile as error:
                logger.error("the former key for tokens stays in use: %s", error)

    def _verify(self, token: str) -> tuple[dict[str, Any], Grant]:
        """Returns the claims and their rights, cached: to verify a signature is expensive."""
        verified = self._verified.get(token)
        if verified is None:
            claims = self._decode(token)
            verified = claims, _granted(claims)
            self._verified[token] = verified
            if len(self._verified) > MAX_CACHED_TOKENS:
                self._verified.popitem(last=False)
        return verified

    def _decode(self, token: str) -> dict[str, Any]:
        """Returns the claims, if one of the keys has signed them: that of the token's `kid`; where
        either has none, any of the algorithm's type."""
        header = _header(token)
        kid, algorithm = header.get("kid"), str(header.get("alg"))
        suited = [
            key
            for key in self._keys
            if algorithm in ALGORITHMS_BY_KEY_TYPE[key.key_type]
            and key.get("alg") in (None, algorithm)
        ]
        named = [key for key in suited if kid is not None and key.kid == kid]
        for key in named or [each for each in suited if kid is None or each.kid is None]:
            with suppress(*OTHER_KEY_ERRORS):
                return jwt.decode(token, key, algorithms=[algorithm]).claims
        if named:
            raise BadSignatureError
        raise InvalidKeyIdError("no key has signed it" if kid is None else f"no key {kid!r}")


def _token_refused(reason: str) -> RequestRefused:
    headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    return RequestRefused(TOKEN_REFUSED, f"the token is invalid: {reason}", headers)


def _header(token: str) -> dict[str, Any]:
    """Returns what a token says of its signature; nothing of it is verified."""
    return jws.extract_compact(token.encode()).headers()


def _granted(claims: Mapping[str, Any]) -> Grant:
    return Grant(_subject(claims), _scopes(claims), bound_to=bound_aggregates(claims))


def _subject(claims: Mapping[str, Any]) -> str | None:
    subject = claims.get("sub")
    if subject is not None and not isinstance(subject, str):
        raise ValueError("the claim sub is not a string")
    if subject is not None and not subject.isascii():
        subject.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
    return subject


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """Returns the scopes of all claims in which providers put them."""
    scopes: set[str] = set()
    for name in ("scope", "scp", "roles"):
        match claims.get(name):
            case None:
                pass
            case str(text):
                scopes.update(text.split())
            case [*texts] if all(isinstance(each, str) for each in texts) and name != "scope":
                scopes.update(texts)
            case _:
                raise ValueError(f"the claim {name} is not a string of scopes with spaces between")
    return frozenset(scopes)
