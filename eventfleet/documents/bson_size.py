"""The size of values as MongoDB stores them (BSON), counted without its driver."""

from datetime import datetime
from typing import Any

MAX_BSON_BYTES = 16 * 2**20
INT32 = range(-(2**31), 2**31)
LEAST_EMPTY_BYTES = 5
ELEMENT_BYTES = 2


def bson_size(value: Any) -> int:
    """Return the bytes of a value, of its name and type aside."""
    match value:
        case None:
            return 0
        case bool():
            return 1
        case str():
            return LEAST_EMPTY_BYTES + len(value.encode("utf-8", "surrogatepass"))
        case int():
            return 4 if value in INT32 else 8
        case float() | datetime():
            return 8
        case bytes():
            return LEAST_EMPTY_BYTES + len(value)
        case dict():
            return LEAST_EMPTY_BYTES + sum(
                _element(str(name), each) for name, each in value.items()
            )
        case list() | tuple():
            return LEAST_EMPTY_BYTES + sum(
                ELEMENT_BYTES + len(str(index)) + bson_size(each)
                for index, each in enumerate(value)
            )
    return 16


def _element(name: str, value: Any) -> int:
    return ELEMENT_BYTES + len(name.encode("utf-8", "surrogatepass")) + bson_size(value)
