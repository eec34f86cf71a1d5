"""A bounded cache that keeps what was used last."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """Values by aggregate id; `trim` drops those used longest ago, beyond `capacity`."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[str, V] = OrderedDict()

    def get(self, key: str) -> V | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def take(self, key: str) -> V | None:
        """The value, which is no longer kept."""
        return self._values.pop(key, None)

    def found(self, keys: Iterable[str]) -> dict[str, V]:
        """The values that there are of these keys."""
        values, used = self._values, self._values.move_to_end
        found = {key: values[key] for key in keys if key in values}
        for key in found:
            used(key)
        return found

    def put(self, key: str, value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)

    def put_all(self, values: Mapping[str, V]) -> None:
        """Those that are there already are not thereby used."""
        self._values.update(values)

    def drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._values.pop(key, None)

    def clear(self) -> None:
        self._values.clear()

    def trim(self) -> list[V]:
        """Drop what is too much, and answer it."""
        over = len(self._values) - self._capacity
        return [self._values.popitem(last=False)[1] for _ in range(over)]

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values
