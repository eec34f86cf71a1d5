"""The file of the keys that verify tokens, and the keys of a set."""

import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import Key, OctKey, import_key

from eventfleet.topics.errors import EventfleetError

MIN_SECRET_BYTES = 32
LOOK_SECONDS = 1.0
UNUSABLE_KEY_ERRORS = (JoseError, ValueError, TypeError, KeyError, AttributeError)

logger = logging.getLogger(__name__)


class InvalidKeyFile(EventfleetError):
    """A file contains no key that can verify tokens."""


class KeyFile:
    """A file of the keys that verify tokens, read again when it has changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: object = None
        self._trouble = False
        self._next_look = 0.0

    def load(self) -> list[Key]:
        """Loads the keys. InvalidKeyFile: there is none."""
        self._seen = self._version()
        return load_key(self._path)

    def load_if_changed(self) -> list[Key] | None:
        """Looks at the file once in LOOK_SECONDS; None: it is the same, or has no valid key.

        The error is logged, and the former keys stay in use until the file changes again.
        """
        now = time.monotonic()
        if now < self._next_look:
            return None
        self._next_look = now + LOOK_SECONDS
        if self._version() == self._seen:
            return None
        try:
            keys = self.load()
        except (InvalidKeyFile, OSError) as error:
            self._trouble = True
            logger.error("the former key for tokens stays in use: %s", error)
            return None
        # A recovery is logged at the level of the trouble, so that a log has both or neither.
        level = logging.ERROR if self._trouble else logging.INFO
        self._trouble = False
        logger.log(level, "read the key for tokens again from %s", self._path)
        return keys

    def _version(self) -> object:
        try:
            found = os.stat(self._path)
        except OSError:
            return None  # loading says why
        return found.st_mtime_ns, found.st_ino, found.st_size


def load_key(path: str) -> list[Key]:
    """Loads a PEM public key, a JWK, a JWK set, or a secret of at least 32 bytes from a file."""
    raw = Path(path).read_bytes().strip()
    try:
        return _parse_keys(raw, path)
    except UNUSABLE_KEY_ERRORS as error:
        raise InvalidKeyFile(f"{path} contains no valid key: {error}") from error


def _parse_keys(raw: bytes, path: str) -> list[Key]:
    if raw.startswith(b"{"):
        jwk = msgspec.json.decode(raw)
        return usable_keys(jwk["keys"], path) if "keys" in jwk else [import_key(jwk)]
    if raw.startswith(b"-----BEGIN"):
        with warnings.catch_warnings(action="ignore"):
            key = import_key(raw)
        if isinstance(key, OctKey):  # a broken PEM file must not pass for a secret
            raise ValueError("the PEM cannot be read")
        return [key]
    if len(raw) < MIN_SECRET_BYTES:
        raise ValueError(f"a secret needs {MIN_SECRET_BYTES} bytes, this one has {len(raw)}")
    return [import_key(raw, "oct")]


def usable_keys(jwks: list[dict[str, Any]], path: str, *, symmetric: bool = True) -> list[Key]:
    """Takes the keys of a set that can verify signatures; others are ignored (RFC 7517, 5).

    Without `symmetric` ones: a secret that a URL tells to everybody verifies nothing.
    """
    usable: list[Key] = []
    for jwk in jwks:
        try:
            if jwk.get("use", "sig") != "sig":
                raise ValueError(f"its use is {jwk['use']!r}")
            if not symmetric and jwk["kty"] == "oct":
                raise ValueError("it is a secret, and published")
            usable.append(import_key(jwk))
        except UNUSABLE_KEY_ERRORS as error:
            kid = jwk.get("kid") if isinstance(jwk, dict) else None
            logger.warning("%s: the key %r can't be used and is ignored: %s", path, kid, error)
    if not usable:
        raise ValueError("no key of the set can be used")
    return usable
