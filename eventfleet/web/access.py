"""Access control: bearer tokens (JWT) with scopes such as `orders:read` and `*:write`."""

import warnings
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet, OctKey, import_key
from starlette.requests import Request

from eventfleet.topics.errors import EventfleetError
from eventfleet.web.problems import HOST_REFUSED, SCOPE_MISSING, TOKEN_REFUSED, RequestRefused
from eventfleet.web.requests import raw_header

ALGORITHMS_BY_KEY_TYPE = {
    "oct": ["HS256", "HS384", "HS512"],
    "RSA": ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
    "EC": ["ES256", "ES384", "ES512"],
    "OKP": ["EdDSA", "Ed25519"],
}
MIN_SECRET_BYTES = 32
LEEWAY_SECONDS = 30
MAX_CACHED_TOKENS = 1_000
ALL_DOMAINS = "*"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class InvalidKeyFile(EventfleetError):
    """A file contains no key that can verify tokens."""


@dataclass(frozen=True)
class Grant:
    """The rights of a caller. `actor` goes into the events of its commands; a token's subject."""

    actor: str | None
    scopes: frozenset[str]

    def allows(self, domain: str, right: str) -> bool:
        """Checks for the scope of this domain, or of all."""
        return not self.scopes.isdisjoint((f"{domain}:{right}", f"{ALL_DOMAINS}:{right}"))

    def require(self, domain: str, right: str) -> None:
        """Raises RequestRefused without the scope."""
        if not self.allows(domain, right):
            scope = f"{domain}:{right}"
            challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
            headers = {"WWW-Authenticate": challenge}
            raise RequestRefused(SCOPE_MISSING, f"the scope {scope} is required", headers)


UNRESTRICTED = Grant(None, frozenset({f"{ALL_DOMAINS}:read", f"{ALL_DOMAINS}:write"}))


class Access(Protocol):
    """Decides what the caller of a request may do. An application with its own users has its own
    implementation."""

    secured: bool
    """True if callers send bearer tokens; the OpenAPI document then says so."""

    def grant(self, request: Request) -> Grant:
        """Returns the caller's rights. RequestRefused: the caller is unknown."""


class LocalAccess:
    """Grants everything to requests whose Host is a loopback name.

    A web page opened on this machine sends another Host, whatever name it gave to this address.
    """

    secured = False

    def grant(self, request: Request) -> Grant:
        host = raw_header(request, "host") or ""
        if _host_name(host) not in LOOPBACK_NAMES:
            names = ", ".join(LOOPBACK_NAMES)
            raise RequestRefused(HOST_REFUSED, f"the host {host!r} is none of {names}")
        return UNRESTRICTED


@lru_cache(maxsize=64)
def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


class TokenAccess:
    """Verifies bearer tokens: signature, `exp` and `nbf`, and issuer and audience if given."""

    secured = True

    def __init__(self, key: Key | KeySet, issuer: str = "", audience: str = "") -> None:
        self._key = key
        keys = key.keys if isinstance(key, KeySet) else [key]
        algorithms = {name for each in keys for name in ALGORITHMS_BY_KEY_TYPE[each.key_type]}
        self._algorithms = sorted(algorithms)
        required: dict[str, Any] = {"exp": {"essential": True}}
        required |= {"iss": {"essential": True, "value": issuer}} if issuer else {}
        required |= {"aud": {"essential": True, "value": audience}} if audience else {}
        self._claims = jwt.JWTClaimsRegistry(leeway=LEEWAY_SECONDS, **required)
        self._verified: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def grant(self, request: Request) -> Grant:
        """Returns the rights of the token. RequestRefused: there is none that is valid now."""
        authorization = raw_header(request, "authorization") or ""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            detail = "the header `Authorization: Bearer TOKEN` is missing"
            raise RequestRefused(TOKEN_REFUSED, detail)
        try:
            claims = self._verify(token.strip())
            self._claims.validate(claims)
        except (JoseError, ValueError) as error:
            headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            detail = f"the token is invalid: {error}"
            raise RequestRefused(TOKEN_REFUSED, detail, headers) from None
        scopes, actor = claims.get("scope"), claims.get("sub")
        return Grant(actor, frozenset(scopes.split() if isinstance(scopes, str) else ()))

    def _verify(self, token: str) -> dict[str, Any]:
        """Returns the claims. Verified signatures are cached, since verifying one is expensive."""
        claims = self._verified.get(token)
        if claims is None:
            claims = jwt.decode(token, self._key, algorithms=self._algorithms).claims
            self._verified[token] = claims
            if len(self._verified) > MAX_CACHED_TOKENS:
                self._verified.popitem(last=False)
        return claims


def load_key(path: str) -> Key | KeySet:
    """Loads a PEM public key, a JWK, a JWK set, or a secret of at least 32 bytes from a file."""
    raw = Path(path).read_bytes().strip()
    try:
        return _parse_key(raw)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise InvalidKeyFile(f"{path} contains no valid key: {error}") from error


def _parse_key(raw: bytes) -> Key | KeySet:
    if raw.startswith(b"{"):
        jwk = msgspec.json.decode(raw)
        return KeySet.import_key_set(jwk) if "keys" in jwk else import_key(jwk)
    if raw.startswith(b"-----BEGIN"):
        with warnings.catch_warnings(action="ignore"):
            key = import_key(raw)
        if isinstance(key, OctKey):  # a broken PEM file must not pass for a secret
            raise ValueError("the PEM cannot be read")
        return key
    if len(raw) < MIN_SECRET_BYTES:
        raise ValueError(f"a secret needs {MIN_SECRET_BYTES} bytes, this one has {len(raw)}")
    return import_key(raw, "oct")
