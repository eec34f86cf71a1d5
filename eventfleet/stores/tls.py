"""Reads from an error why a TLS handshake failed."""

import ssl
from collections.abc import Iterator

UNTRUSTED = "certificate verify failed: "
# The server has gone in the middle of a handshake, which says nothing about the protocol.
HUNG_UP_ERRORS = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


def certificate_fault(error: BaseException) -> str | None:
    """Return why the server's certificate is not accepted; None where that is not the reason.

    Some drivers keep no more of the error than its text.
    """
    for each in _chain(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return each.verify_message.rstrip(".")
    _, untrusted, reason = str(error).partition(UNTRUSTED)
    return reason.partition(" (_ssl")[0].rstrip(".") if untrusted else None


def handshake_fault(error: BaseException) -> str | None:
    """Return why the handshake failed, where neither a certificate nor a lost connection did it."""
    for each in _chain(error):
        if isinstance(each, ssl.SSLError) and not isinstance(each, HUNG_UP_ERRORS):
            return (each.reason or str(each)).replace("_", " ").lower()
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
