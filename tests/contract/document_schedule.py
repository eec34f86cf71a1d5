"""Random schedules of two processes that change, read and redeploy over one document store.

Each answer is checked against the stored history: it must hold at a moment between call and answer.
The history is folded by lines of its own, and read by the types that the processes have.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack
from copy import deepcopy
from itertools import count
from typing import Any, NamedTuple

import msgspec

from eventfleet.documents import EventSourcedStorage, InvalidDocument, NotFound, StorageOptions
from eventfleet.stores.contracts.documents import DocumentStore, StoredDocument
from tests.contract.document_shapes import SHAPES, change, spoil

ROUNDS, MOST_CALLS = 6, 5
ADOPTED_VERSION = 3


class Refused(Exception):
    """Raised by an edit, with the version that it refuses."""


class Committed(NamedTuple):
    """The moments before and after a version was inserted."""

    begin: int
    end: int


class Violation(AssertionError):
    """An answer that was true at no moment of its call, or a history that does not hold."""


class Timeline:
    """The moments of all calls and insertions, counted; and the state of each version."""

    def __init__(self) -> None:
        self._moments = count(1)
        self.committed: defaultdict[str, dict[int, Committed]] = defaultdict(dict)
        self.states: defaultdict[str, dict[int, Any]] = defaultdict(dict)

    def moment(self) -> int:
        return next(self._moments)

    def adopt(self, id: str, state: Any, version: int) -> None:
        self.committed[id][version] = Committed(0, 0)
        self.states[id][version] = state

    def current(self, id: str, begin: int, end: int) -> list[int]:
        """The versions that may have been the latest at a moment between two."""
        known = self.committed[id]
        first = [] if any(v.end < begin for v in known.values()) else [0]
        return first + [
            version
            for version, at in known.items()
            if at.begin <= end and (version + 1 not in known or known[version + 1].end >= begin)
        ]

    def state(self, id: str, version: int) -> Any:
        return self.states[id].get(version)


class ObservedStore:
    """A document store that notes when each event was inserted; calls wait at random."""

    def __init__(self, store: DocumentStore, timeline: Timeline, chance: random.Random) -> None:
        self._store, self._timeline, self._chance = store, timeline, chance
        self.outbox = store.outbox

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name in ("changes", "feed"):
            return found

        async def called(*arguments: Any, **options: Any) -> Any:
            await self._wait()
            try:
                return await found(*arguments, **options)
            finally:
                await self._wait()

        return called

    async def insert(self, event: Any, *, to_publish: bool) -> None:
        await self._wait()
        begin = self._timeline.moment()
        await self._store.insert(event, to_publish=to_publish)
        at = Committed(begin, self._timeline.moment())
        self._timeline.committed[event.aggregate_id][event.version] = at
        await self._wait()

    async def _wait(self) -> None:
        for _ in range(self._chance.choice((0, 0, 1, 3))):
            await asyncio.sleep(0)


class Process:
    """One process: its storage, its document type, and the versions that its callers have seen."""

    def __init__(self, store: Any, chance: random.Random, *, watch: bool) -> None:
        self._store, self._chance = store, chance
        self._options = StorageOptions(watch=watch, cache_documents=chance.choice((1, 10)))
        self.seen: dict[str, int] = {}
        self._stack = AsyncExitStack()

    async def deploy(self) -> None:
        """Start with another type, as a new deployment does."""
        await self._stack.aclose()
        self.shape = self._chance.choice(SHAPES)
        self.storage: EventSourcedStorage[Any] = EventSourcedStorage(
            "games", self.shape, self._store, options=self._options
        )
        self.seen = {}
        await self._stack.enter_async_context(self.storage)

    async def end(self) -> None:
        await self._stack.aclose()


class Answer(NamedTuple):
    """One call's answer: the call, its moments, what its process had seen, and what came of it."""

    process: Process
    shape: Any
    what: str
    id: str
    begin: int
    end: int
    seen: int
    token: str
    result: Any


class Schedule:
    """One schedule, of a seed; `run` raises a Violation where an answer or a history is false."""

    def __init__(self, store: DocumentStore, seed: str) -> None:
        self._store, self._seed = store, seed
        self._chance, self._timeline = random.Random(seed), Timeline()
        self._ids = [f"{seed}-a", f"{seed}-b"]
        self._answers: list[Answer] = []

    async def run(self) -> None:
        chance = self._chance
        await self._adopt()
        watch = chance.random() < 0.5
        observed = ObservedStore(self._store, self._timeline, chance)
        processes = [Process(observed, chance, watch=watch) for _ in range(2)]
        try:
            for each in processes:
                await each.deploy()
            for _ in range(ROUNDS):
                callers = chance.choices(processes, k=1 + chance.randrange(MOST_CALLS))
                await asyncio.gather(*map(self._call, callers))
                if chance.random() < 0.25:
                    await chance.choice(processes).deploy()
        finally:
            for each in processes:
                await each.end()
        await self._fold_histories()
        for answer in self._answers:
            self._check(answer)

    async def _adopt(self) -> None:
        """Store a document that was there before the storage."""
        if self._chance.random() < 0.3:
            fields = {"gold": 2, "legacy": {"kept": [1]}, "parts": [{"name": "p", "old": 1}]}
            document = StoredDocument(self._ids[0], ADOPTED_VERSION, fields)
            await self._store.project([document])
            self._timeline.adopt(self._ids[0], deepcopy(fields), ADOPTED_VERSION)

    # Calls

    async def _call(self, process: Process) -> None:
        chance, timeline = self._chance, self._timeline
        what, id = chance.choice(CALLS), chance.choice(self._ids)
        token, shape, seen = f"t{timeline.moment()}", process.shape, process.seen.get(id, 0)
        begin = timeline.moment()
        try:
            result = await CALLABLE[what](process.storage, shape, id, token)
        except (NotFound, Refused, InvalidDocument) as error:
            result = error
        end = timeline.moment()
        kept = result if isinstance(result, Exception) else deepcopy(result)
        self._answers.append(Answer(process, shape, what, id, begin, end, seen, token, kept))
        version = _version(result)
        process.seen[id] = max(process.seen.get(id, 0), version)
        spoil(result)  # what a caller holds is its own

    # Histories

    async def _fold_histories(self) -> None:
        for id in self._ids:
            states = self._timeline.states[id]
            storage: Any = EventSourcedStorage("games", SHAPES[0], self._store)
            for each in await storage.get_missing_events(id):
                before = states.get(each.version - 1)
                if each.floor:
                    _require(before == each.metadata.get("adopted_doc"), "what was adopted", each)
                states[each.version] = self._after(before, each)

    def _after(self, before: Any, change: Any) -> Any:
        if change.diff.is_deleted:
            return None
        start = {} if change.diff.is_new else before
        try:
            after = fold_patch(deepcopy(start), change.diff.json_patch)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise Violation(f"{change} does not apply to {start}: {error!r}") from None
        merged = merge(deepcopy(start), change.diff.merge_patch)
        _require(without_nulls(merged) == without_nulls(after), "the merge patch", change)
        if change.diff.is_new:
            _require(change.metadata["created_doc"] == after, "created_doc", change)
        return after

    # Answers

    def _check(self, answer: Answer) -> None:
        try:
            CHECKS[answer.what](self, answer)
        except Violation as error:
            known = self._timeline.committed[answer.id], self._timeline.states[answer.id]
            raise Violation(f"seed {self._seed}: {error}\n{answer}\n{known}") from None

    def _read(self, answer: Answer, version: int) -> Any:
        """The document at a version as the caller's type reads it, or the error that it raises."""
        state = self._timeline.state(answer.id, version)
        return read(answer.shape, answer.id, state, version)

    def _check_changed(self, answer: Answer) -> None:
        current = self._timeline.current(answer.id, answer.begin, answer.end)
        if isinstance(answer.result, Exception):
            self._check_refused(answer, current)
            return
        document, diff = answer.result
        version = diff.version
        if not diff.has_changes:
            _require(version in current, "no change at a version that was not current")
            before = self._read(answer, version)
            _require(same(document, before), "no change, of another document")
            _require(same(edited(answer, before), before), "no change, of an edit that changes")
            return
        _require(answer.begin < self._timeline.committed[answer.id][version].end, "an old write")
        before = self._read(answer, version - 1)
        _require(same(document, edited(answer, before)), "what was stored is not the edit's")
        _require(same(document, self._read(answer, version)), "the history has another document")

    def _check_refused(self, answer: Answer, current: list[int]) -> None:
        error, states = answer.result, [(v, self._read(answer, v)) for v in current]
        if isinstance(error, NotFound):
            _require(any(state is None for _, state in states), "not found, and always there")
        elif isinstance(error, Refused):
            _require(error.args[0] in current, "refused at a version that was not current")
        else:
            _require(any(isinstance(s, Exception) for _, s in states), f"invalid: {error}")

    def _check_upserted(self, answer: Answer) -> None:
        current = self._timeline.current(answer.id, answer.begin, answer.end)
        if isinstance(answer.result, Exception):
            self._check_refused(answer, current)
            return
        version = answer.result.version
        _require(version in current, "upserted at a version that was not current")
        _require(same(answer.result, self._read(answer, version)), "another document")

    def _check_read(self, answer: Answer) -> None:
        """A read may be stale, but not staler than what its process had seen.

        What its type can't read keeps `find` from nothing else: it is found as it was before.
        """
        known = self._timeline.committed[answer.id]
        least = [v for v, at in known.items() if v >= answer.seen and at.begin <= answer.end]
        allowed = least if answer.seen else [0, *least]
        states = [self._read(answer, version) for version in allowed]
        is_unreadable = any(isinstance(state, Exception) for state in states)
        if isinstance(answer.result, InvalidDocument):
            _require(is_unreadable, f"invalid: {answer.result}")
        elif is_unreadable and answer.what == "find":
            return
        else:
            _require(any(same(answer.result, s) for s in states), "older than was seen, or false")

    def _check_listed(self, answer: Answer) -> None:
        current = self._timeline.current(answer.id, answer.begin, answer.end)
        latest = max((change.version for change in answer.result), default=0)
        at = 0 if latest == 0 and ADOPTED_VERSION in current else latest
        _require(at in current or latest in current or at == 0, "changes that end elsewhere")


def edited(answer: Answer, before: Any) -> Any:
    """The document that an edit makes of another."""
    document = deepcopy(before)
    if document is None:
        return answer.shape(id=answer.id)
    change(answer.what, document, answer.token)
    return document


def read(shape: Any, id: str, state: Any, version: int) -> Any:
    if state is None:
        return None
    try:
        return msgspec.convert({**state, "id": id, "version": version}, shape)
    except msgspec.ValidationError as error:
        return error


def same(one: Any, other: Any) -> bool:
    """Compare documents, their versions aside: the history's checks have those."""
    if one is None or other is None or isinstance(other, Exception):
        return one is other
    plain = [msgspec.json.encode(each, order="sorted") for each in (one, other)]
    values = [msgspec.json.decode(each) for each in plain]
    for each in values:
        each.pop("version")
    return bool(values[0] == values[1])


def _version(result: Any) -> int:
    if isinstance(result, tuple):
        return int(result[1].version)
    if isinstance(result, list):
        return max((change.version for change in result), default=0)
    return int(getattr(result, "version", 0))


def _require(holds: bool, what: str, *more: Any) -> None:
    if not holds:
        raise Violation(f"{what} {more or ''}")


# The history's own fold


def fold_patch(document: Any, patch: list[dict[str, Any]]) -> Any:
    """JSON Patch (RFC 6902) of add, replace and remove, which all that is stored is made of."""
    for each in patch:
        if each["path"] == "":
            document = deepcopy(each["value"])
            continue
        *outer, last = [
            part.replace("~1", "/").replace("~0", "~") for part in each["path"][1:].split("/")
        ]
        place = document
        for part in outer:
            place = place[int(part)] if isinstance(place, list) else place[part]
        step(place, last, each)
    return document


def step(place: Any, name: str, operation: dict[str, Any]) -> None:
    kind, key = operation["op"], int(name) if isinstance(place, list) else name
    if kind == "remove":
        del place[key]
    elif kind == "add" and isinstance(place, list):
        if not 0 <= int(key) <= len(place):
            raise IndexError(key)
        place.insert(int(key), deepcopy(operation["value"]))
    elif kind == "add":
        place[key] = deepcopy(operation["value"])
    elif kind == "replace":
        place[key]  # it must be there
        place[key] = deepcopy(operation["value"])
    else:
        raise ValueError(kind)


def merge(target: Any, patch: Any) -> Any:
    """JSON Merge Patch (RFC 7396, section 2)."""
    if not isinstance(patch, dict):
        return patch
    target = target if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = merge(target.get(name), value)
    return target


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    return value


# The calls


async def _edit(storage: Any, shape: Any, id: str, token: str, what: str) -> Any:
    return await storage.find_one_and_update(id, lambda game: change(what, game, token), token)


async def _refuse(storage: Any, shape: Any, id: str, token: str) -> Any:
    def refuse(game: Any) -> None:
        raise Refused(game.version)

    return await storage.find_one_and_update(id, refuse, token)


async def _edit_or_create(storage: Any, shape: Any, id: str, token: str) -> Any:
    def edit(game: Any) -> Any:
        if game is None:
            return shape(id=id)
        return change("create", game, token)

    return await storage.edit_or_create(id, edit, token)


async def _delete(storage: Any, shape: Any, id: str, token: str) -> Any:
    return await storage.delete_one(id, token)


async def _upsert(storage: Any, shape: Any, id: str, token: str) -> Any:
    return await storage.find_one_and_upsert(shape(id=id, gold=1), token)


async def _get(storage: Any, shape: Any, id: str, token: str) -> Any:
    return await storage.get(id)


async def _find(storage: Any, shape: Any, id: str, token: str) -> Any:
    found = await storage.find({"_id": id})
    return found[0] if found else None


async def _missing(storage: Any, shape: Any, id: str, token: str) -> Any:
    return await storage.get_missing_events(id)


def _check_deleted(schedule: Schedule, answer: Answer) -> None:
    current = schedule._timeline.current(answer.id, answer.begin, answer.end)
    if isinstance(answer.result, Exception):
        schedule._check_refused(answer, current)
    else:
        states = [schedule._timeline.state(answer.id, version) for version in current]
        _require(None in states, "deleted, and never away")


def _editing(what: str) -> Callable[..., Any]:
    return lambda storage, shape, id, token: _edit(storage, shape, id, token, what)


EDITS = ("earn", "nest", "append", "keep", "part", "cap")
CALLABLE: dict[str, Callable[..., Any]] = {
    **{what: _editing(what) for what in EDITS},
    "refuse": _refuse,
    "create": _edit_or_create,
    "delete": _delete,
    "upsert": _upsert,
    "get": _get,
    "find": _find,
    "missing": _missing,
}
CALLS = (*EDITS, *EDITS, "refuse", "create", "delete", "upsert", "upsert", "get", "find", "missing")
CHECKS: dict[str, Callable[[Schedule, Answer], None]] = {
    **dict.fromkeys((*EDITS, "refuse", "create"), Schedule._check_changed),
    "delete": _check_deleted,
    "upsert": Schedule._check_upserted,
    "get": Schedule._check_read,
    "find": Schedule._check_read,
    "missing": Schedule._check_listed,
}
