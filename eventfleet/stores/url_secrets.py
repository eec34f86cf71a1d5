"""Keeps the credentials of a URL out of messages about it."""

import re

MASK = "***"
_QUOTED = re.compile(r"""(['"])(.+?)\1""")


def mask_credentials(text: str, url: str) -> str:
    """Mask what a message quotes from the credentials of a URL.

    A password with a `/` or `#` that is not percent-encoded ends up in the place of a port, and
    parsers quote a port that they can't read.
    """
    credentials = url.partition("//")[2].rpartition("@")[0]
    return _QUOTED.sub(lambda found: f"'{MASK}'" if found[2] in credentials else found[0], text)
