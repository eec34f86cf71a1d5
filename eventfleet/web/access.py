"""Who may do what: bearer tokens (JWT) with scopes such as `orders:read` and `*:write`."""

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
from eventfleet.web.parameters import raw_header
from eventfleet.web.problems import HOST, SCOPE, TOKEN, RequestRefused

ALGORITHMS = {
    "oct": ["HS256", "HS384", "HS512"],
    "RSA": ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
    "EC": ["ES256", "ES384", "ES512"],
    "OKP": ["EdDSA", "Ed25519"],
}
SECRET_BYTES = 32
LEEWAY = 30
REMEMBERED = 1_000
EVERYTHING = "*"
OWN_NAMES = ("localhost", "127.0.0.1", "::1")


class KeyRefused(EventfleetError):
    """A file that holds no key for tokens."""


@dataclass(frozen=True)
class Grant:
    """What a caller may do; `actor` is the token's subject."""

    actor: str | None
    scopes: frozenset[str]

    def allows(self, domain: str, right: str) -> bool:
        """Whether it reaches a domain; `*` is all of them."""
        return not self.scopes.isdisjoint((f"{domain}:{right}", f"{EVERYTHING}:{right}"))

    def need(self, domain: str, right: str) -> None:
        """Refused without the scope."""
        if not self.allows(domain, right):
            scope = f"{domain}:{right}"
            told = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
            raise RequestRefused(SCOPE, f"it needs the scope {scope}", told)


ANYONE = Grant(None, frozenset({f"{EVERYTHING}:read", f"{EVERYTHING}:write"}))


class Access(Protocol):
    """Who may do what. An application with users of its own brings its own."""

    secured: bool
    """Whether callers send bearer tokens."""

    def grant(self, request: Request) -> Grant:
        """What the caller may do. Refused where that can't be told."""


class LocalAccess:
    """Anyone on this machine. A web page that is open here has another Host, whatever name it
    gave this address."""

    secured = False

    def grant(self, request: Request) -> Grant:
        host = raw_header(request, "host") or ""
        if _name(host) not in OWN_NAMES:
            raise RequestRefused(HOST, f"{host!r} is none of {', '.join(OWN_NAMES)}")
        return ANYONE


@lru_cache(maxsize=64)
def _name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


class TokenAccess:
    """Checks tokens: signature, `exp`, `nbf`, and where they are given issuer and audience."""

    secured = True

    def __init__(self, key: Key | KeySet, issuer: str = "", audience: str = "") -> None:
        self._key = key
        keys = key.keys if isinstance(key, KeySet) else [key]
        self._algorithms = sorted({name for each in keys for name in ALGORITHMS[each.key_type]})
        wanted: dict[str, Any] = {"exp": {"essential": True}}
        wanted |= {"iss": {"essential": True, "value": issuer}} if issuer else {}
        wanted |= {"aud": {"essential": True, "value": audience}} if audience else {}
        self._claims = jwt.JWTClaimsRegistry(leeway=LEEWAY, **wanted)
        self._verified: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def grant(self, request: Request) -> Grant:
        """What its token allows. Refused where there is none that is valid now."""
        authorization = raw_header(request, "authorization") or ""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise RequestRefused(TOKEN, "there is no header `Authorization: Bearer TOKEN`")
        try:
            claims = self._signed(token.strip())
            self._claims.validate(claims)
        except (JoseError, ValueError) as error:
            told = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            raise RequestRefused(TOKEN, f"the token is refused: {error}", told) from None
        scopes, actor = claims.get("scope"), claims.get("sub")
        return Grant(actor, frozenset(scopes.split() if isinstance(scopes, str) else ()))

    def _signed(self, token: str) -> dict[str, Any]:
        """The claims; a signature that was verified is remembered for a while."""
        claims = self._verified.get(token)
        if claims is None:
            claims = jwt.decode(token, self._key, algorithms=self._algorithms).claims
            self._verified[token] = claims
            if len(self._verified) > REMEMBERED:
                self._verified.popitem(last=False)
        return claims


def read_key(path: str) -> Key | KeySet:
    """The key in a file: a PEM public key, a JWK, a JWK set, or a secret of 32 bytes at least."""
    raw = Path(path).read_bytes().strip()
    try:
        return _key_in(raw)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise KeyRefused(f"{path} holds no key: {error}") from error


def _key_in(raw: bytes) -> Key | KeySet:
    if raw.startswith(b"{"):
        told = msgspec.json.decode(raw)
        return KeySet.import_key_set(told) if "keys" in told else import_key(told)
    if raw.startswith(b"-----BEGIN"):
        with warnings.catch_warnings(action="ignore"):
            key = import_key(raw)
        if isinstance(key, OctKey):  # what looks like PEM and is none must not be a secret
            raise ValueError("it is no PEM that can be read")
        return key
    if len(raw) < SECRET_BYTES:
        raise ValueError(f"a secret needs {SECRET_BYTES} bytes, this one has {len(raw)}")
    return import_key(raw, "oct")
