"""What many ask for at once, done together: few large pieces of work, and none held up for long."""

import asyncio
from collections.abc import Sequence

import pytest

from service import together
from service.together import Together
from stores.errors import Unavailable
from tests.unit.until import until


class Work:
    """Doubles numbers, each piece when it is let go on."""

    def __init__(self) -> None:
        self.pieces: list[list[int]] = []
        self.release = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, items: list[int]) -> Sequence[int]:
        self.pieces.append(items)
        await self.release.wait()
        if self.error:
            raise self.error
        return [2 * item for item in items]


async def test_what_comes_while_a_young_piece_is_under_way_goes_with_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(together, "YOUNG", 60)
    work = Work()
    some = Together(work)
    first = asyncio.create_task(some.ask(1))
    await until(lambda: work.pieces)
    others = [asyncio.create_task(some.ask(number)) for number in (2, 3)]
    await asyncio.sleep(0.01)
    assert work.pieces == [[1]]
    work.release.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6]
    assert work.pieces == [[1], [2, 3]]


async def test_a_second_piece_goes_beside_one_that_is_no_longer_young() -> None:
    work = Work()
    some = Together(work)
    asks = [asyncio.create_task(some.ask(1))]
    await until(lambda: work.pieces)
    asks.append(asyncio.create_task(some.ask(2)))
    await until(lambda: len(work.pieces) == 2)
    asks.append(asyncio.create_task(some.ask(3)))
    await asyncio.sleep(2 * together.YOUNG)
    assert work.pieces == [[1], [2]], "there are never more than two"
    work.release.set()
    assert await asyncio.gather(*asks) == [2, 4, 6]


async def test_a_full_piece_goes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "YOUNG", 60)
    work = Work()
    some = Together(work)
    asks = [asyncio.create_task(some.ask(0))]
    await until(lambda: work.pieces)
    asks += [asyncio.create_task(some.ask(number)) for number in range(together.MOST)]
    await until(lambda: len(work.pieces) == 2)
    assert len(work.pieces[1]) == together.MOST
    work.release.set()
    await asyncio.gather(*asks)


async def test_an_error_is_raised_for_each_of_its_items_and_the_next_go_on() -> None:
    work = Work()
    some, work.error = Together(work), KeyError("a bug")
    work.release.set()
    for end in await asyncio.gather(some.ask(1), some.ask(2), return_exceptions=True):
        assert isinstance(end, KeyError)
    work.error = None
    assert await some.ask(3) == 6


async def test_closing_gives_up_what_waits_and_what_is_under_way() -> None:
    work = Work()
    some = Together(work)
    asks = [asyncio.create_task(some.ask(1))]
    await until(lambda: work.pieces)
    asks.append(asyncio.create_task(some.ask(2)))
    await asyncio.sleep(0)
    await some.close()
    for end in await asyncio.gather(*asks, return_exceptions=True):
        assert isinstance(end, Unavailable)
