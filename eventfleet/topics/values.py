"""The rule for values, the same at every door, and the words of a refusal."""

import msgspec

from eventfleet.topics.errors import InvalidRecord

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not JSON of the expected shape."""


def decode_text(raw: bytes, at: str = "value") -> str:
    """Decode UTF-8. InvalidRecord, for the field `at`."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1} is {raw[error.start]:#04x}"
        raise InvalidRecord(at, f"is not UTF-8: {byte}") from None


def require_text(text: str, at: str = "value") -> str:
    """Return a text that Python has of foreign bytes. InvalidRecord where they are not UTF-8."""
    return text if text.isascii() else decode_text(text.encode(errors="surrogateescape"), at)
