"""An edit decodes and encodes its document once each, and what is stored reads back the same."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from eventfleet.documents import MemoryClient, open_storage
from eventfleet.documents.document_codec import DocumentCodec


class Order(msgspec.Struct):
    """A document of plain values."""

    id: str
    lines: list[dict[str, Any]] = []
    notes: Any = None
    version: int = 0


@dataclass
class DataclassOrder:
    """The same as a dataclass."""

    id: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    notes: Any = None
    version: int = 0


class Priced(msgspec.Struct):
    """A document with a number that has two forms."""

    id: str
    notes: Any = None
    price: float = 0.0


class Capped(msgspec.Struct):
    """A document that changes its own fields."""

    id: str
    notes: Any = None
    price: int = 0

    def __post_init__(self) -> None:
        self.price = min(self.price, 9)


class Model(BaseModel):
    """A document whose type may make anything of its fields."""

    id: str
    notes: Any = None
    price: float = 0.0


@pytest.mark.parametrize("kind", [Order, DataclassOrder])
async def test_an_edit_decodes_and_encodes_once(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()
    for name in ("encode", "decode"):
        called = getattr(DocumentCodec, name)

        def counted(self: Any, *args: Any, _name: str = name, _called: Any = called) -> Any:
            calls[_name] += 1
            return _called(self, *args)

        monkeypatch.setattr(DocumentCodec, name, counted)
    async with open_storage(MemoryClient(), "shop", "orders", kind) as orders:
        await orders.find_one_and_upsert(kind("o1", [{"n": 1}]))
        for number in range(3):
            calls.clear()
            edited, diff = await orders.find_one_and_update(
                "o1", lambda order, n=number: order.lines.append({"n": n})
            )
            assert (diff.has_changes, len(edited.lines)) == (True, number + 2)
            assert calls == {"encode": 1, "decode": 1}
        calls.clear()
        assert await orders.get("o1") == edited
        assert not calls


@pytest.mark.parametrize("kind", [Priced, Capped, Model])
async def test_what_reads_back_otherwise_is_stored_as_it_reads_back(kind: Any) -> None:
    def set_price(price: Any) -> Any:
        return lambda order: setattr(order, "price", price)

    client = MemoryClient()
    async with open_storage(client, "shop", "orders", kind) as orders:
        await orders.find_one_and_upsert(kind(id="o1", notes=1))
        edited, _ = await orders.find_one_and_update("o1", set_price(12))
        changes = await orders.get_missing_events("o1", 1)
        assert str(changes[0].diff.merge_patch["price"]) == str(edited.price)
        assert not (await orders.find_one_and_update("o1", set_price(12)))[1].has_changes
        assert (
            await orders.find_one_and_update("o1", lambda order: setattr(order, "notes", True))
        )[1].has_changes, "1 is not true"
    async with open_storage(client, "shop", "orders", kind) as orders:
        assert (await orders.get("o1")).price == edited.price
