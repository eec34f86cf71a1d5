"""Makes the key that verifies a trial's tokens; with --print it prints a token.

In production an identity provider signs tokens, and the service knows its public key only.
"""

import secrets
import sys
import time
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import OctKey

KEY_BYTES = 32
DAY_SECONDS = 86_400
SCOPE = "*:read *:write *:operate"


def load_key(path: Path) -> str:
    """The key of the file; made where there is none."""
    if not path.exists():
        path.write_text(secrets.token_hex(KEY_BYTES))
        path.chmod(0o444)  # the service that reads it runs as another user
    return path.read_text().strip()


def new_token(key: str) -> str:
    """A token that may do everything in all domains, for a day."""
    claims = {"sub": "trial", "scope": SCOPE, "exp": int(time.time()) + DAY_SECONDS}
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(key))


def main(path: str, *options: str) -> None:
    key = load_key(Path(path))
    if "--print" in options:
        print(new_token(key))


if __name__ == "__main__":
    main(*sys.argv[1:])
