"""The rule for values, the same at every door, and the words of a refusal."""

import re

import msgspec

from eventfleet.topics.errors import InvalidRecord

NOT_UTF8 = "is not UTF-8"
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not JSON of the expected shape."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def read_number(text: str, decimal: str = ".") -> str:
    """Return a number of a text as JSON writes it; spaces around it don't count.

    ValueError: it is none, with this decimal mark.
    """
    number = text.strip(" ")
    if decimal != ".":
        number = number.replace(".", "?").replace(decimal, ".")
    if not _NUMBER.fullmatch(number):
        mark = "" if decimal == "." else f" with {decimal!r} as decimal mark"
        raise ValueError(f"{text[:60]!r} is not a number{mark}")
    return number


def decode_text(raw: bytes, at: str = "value") -> str:
    """Decode UTF-8. InvalidRecord, for the field `at`."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1} is {raw[error.start]:#04x}"
        raise InvalidRecord(at, f"{NOT_UTF8}: {byte}") from None


def require_text(text: str, at: str = "value") -> str:
    """Return a text that Python has of foreign bytes. InvalidRecord where they are not UTF-8."""
    return text if text.isascii() else decode_text(text.encode(errors="surrogateescape"), at)
