"""Documents whose answers are true, whose callers hold copies, and whose histories fold."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jsonpatch
import msgspec
import pytest
from pydantic import BaseModel

from eventfleet.documents import EventSourcedStorage, InvalidDocument, NotFound, document_domain
from eventfleet.states.live_state import LiveState
from eventfleet.stores.contracts.documents import StoredDocument
from eventfleet.topics.event import EventRecord
from tests.contract.document_openings import OpenGames
from tests.contract.document_openings import opening as opening
from tests.contract.document_shapes import spoil

Storage = EventSourcedStorage[Any]
MEGABYTES_6 = 6_000_000


class Case(msgspec.Struct):
    """A document with fields of any value."""

    id: str
    notes: dict[str, Any] = {}
    rows: list[Any] = []
    free: Any = None
    version: int = 0


@dataclass
class DataclassCase:
    """The same as a dataclass."""

    id: str
    notes: dict[str, Any] = field(default_factory=dict)
    rows: list[Any] = field(default_factory=list)
    free: Any = None
    version: int = 0


class ModelCase(BaseModel):
    """The same as a pydantic model."""

    id: str
    notes: dict[str, Any] = {}
    rows: list[Any] = []
    free: Any = None
    version: int = 0


CASES = [Case, DataclassCase, ModelCase]


def new_case(kind: Any) -> Any:
    return kind(id="c1", notes={"log": ["opened"]}, rows=[{"n": [1]}], free={"deep": {"list": []}})


IN_PLACE: dict[str, Callable[[Any], Any]] = {
    "dict": lambda case: case.notes["log"].append("called"),
    "list": lambda case: case.rows[0]["n"].append(2),
    "any": lambda case: case.free["deep"]["list"].append("x"),
}


# What a caller holds is its own


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("edit", IN_PLACE.values(), ids=IN_PLACE)
async def test_a_change_inside_of_a_field_is_stored(
    opening: OpenGames, kind: Any, edit: Callable[[Any], Any]
) -> None:
    async with opening(kind) as cases, opening(kind, watch=False) as other:
        await cases.find_one_and_upsert(new_case(kind))
        edited, diff = await cases.find_one_and_update("c1", lambda case: edit(case) and None)
        expected = new_case(kind)
        edit(expected)
        expected.version = 2
        assert (edited, diff.has_changes) == (expected, True)
        assert await other.get("c1") == expected


@pytest.mark.parametrize("kind", CASES)
async def test_nothing_that_a_caller_holds_is_the_storages(opening: OpenGames, kind: Any) -> None:
    async with opening(kind) as cases:
        given = new_case(kind)
        held = [given, await cases.find_one_and_upsert(given)]
        held += await cases.find_one_and_update("c1", lambda case: case.notes.update(a=[1]))
        held += [await cases.get("c1"), *await cases.find()]
        expected = new_case(kind)
        expected.notes["a"], expected.version = [1], 2
        history = msgspec.json.encode(await cases.get_missing_events("c1"))
        held += [await cases.get_missing_events("c1"), await cases.find_one_and_upsert(given)]
        for each in held:
            spoil(each if isinstance(each, msgspec.Struct | list) else vars(each))
        assert await cases.get("c1") == expected
        assert await cases.find() == [expected]
        assert msgspec.json.encode(await cases.get_missing_events("c1")) == history


class Tags:
    """A value of a team's own, which can be changed."""

    def __init__(self, *names: str) -> None:
        self.names = [*names]

    def __str__(self) -> str:
        return ",".join(self.names)


class Tagged(msgspec.Struct):
    """A document whose default could be shared by all."""

    id: str
    tags: Any = Tags("new")
    version: int = 0


async def test_documents_share_no_default(opening: OpenGames) -> None:
    async with opening(Tagged) as tagged:
        await opening.store.project([StoredDocument("t1", 1, {}), StoredDocument("t2", 1, {})])
        first = await tagged.get("t1")
        first.tags.names.append("spoilt")
        second = await tagged.get("t2")
        assert str(second.tags) == "new"


# Answers are true at a moment of their call


async def stale(opening: OpenGames, work: Callable[[Storage, Storage], Awaitable[None]]) -> None:
    """Do work with two processes; the first hears nothing of the other's changes."""
    async with opening(Case, watch=False) as here, opening(Case, watch=False) as there:
        await here.find_one_and_upsert(Case("c1", {"n": 1}))
        assert await here.get("c1")
        await work(here, there)


def set_note(number: int) -> Callable[[Any], None]:
    def edit(case: Any) -> None:
        case.notes = {"n": number}

    return edit


async def test_no_change_is_answered_of_the_latest_version_only(opening: OpenGames) -> None:
    async def work(here: Storage, there: Storage) -> None:
        await there.find_one_and_update("c1", set_note(2))
        case, diff = await here.find_one_and_update("c1", set_note(1))
        assert (case.notes, case.version, diff.has_changes) == ({"n": 1}, 3, True)
        await there.find_one_and_update("c1", set_note(2))
        case, diff = await here.edit_or_create("c1", set_note(1))
        assert (case.version, diff.has_changes) == (5, True)

    await stale(opening, work)


async def test_a_deleted_document_is_not_answered_but_created(opening: OpenGames) -> None:
    async def work(here: Storage, there: Storage) -> None:
        await there.delete_one("c1")
        assert await here.find_one_and_upsert(Case("c1", {"new": True})) == Case(
            "c1", {"new": True}, version=3
        )

    await stale(opening, work)


async def test_not_found_is_answered_of_the_latest_version_only(opening: OpenGames) -> None:
    async def work(here: Storage, there: Storage) -> None:
        await here.delete_one("c1")
        await there.find_one_and_upsert(Case("c1"))
        assert (await here.find_one_and_update("c1", set_note(7)))[0].version == 4
        await there.delete_one("c1")
        with pytest.raises(NotFound):
            await here.delete_one("c1")
        await there.find_one_and_upsert(Case("c1"))
        await here.delete_one("c1")
        assert await there.find_one_and_upsert(Case("c1", {"n": 8})) == Case(
            "c1", {"n": 8}, version=8
        )

    await stale(opening, work)


async def test_what_an_edit_raises_of_a_stale_document_is_no_answer(opening: OpenGames) -> None:
    def spend(case: Any) -> None:
        if case.notes["n"] < 2:
            raise ValueError("too little")
        case.notes = {"n": 0}

    async def work(here: Storage, there: Storage) -> None:
        await there.find_one_and_update("c1", set_note(2))
        assert (await here.find_one_and_update("c1", spend))[0].notes == {"n": 0}
        with pytest.raises(ValueError, match="too little"):
            await here.find_one_and_update("c1", spend)

    await stale(opening, work)


SEE: dict[str, Callable[[Storage], Awaitable[Any]]] = {
    "history": lambda here: here.get_missing_events("c1"),
    "find": lambda here: here.find(at_least={"c1": 2}),
    "edit": lambda here: here.find_one_and_update("c1", set_note(2)),
    "upsert": lambda here: here.find_one_and_upsert(Case("c1")),
}


@pytest.mark.parametrize("see", SEE.values(), ids=SEE)
async def test_no_read_is_older_than_what_the_process_has_seen(
    opening: OpenGames, see: Callable[[Storage], Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfleet.buses.publisher.LEFT_BEHIND_SECONDS", 600.0)

    async def work(here: Storage, there: Storage) -> None:
        await there.find()
        monkeypatch.setattr(there._projector, "put", lambda *_: asyncio.sleep(0, True))
        await there.find_one_and_update("c1", set_note(2))
        await see(here)
        expected = Case("c1", {"n": 2}, version=2)
        assert await here.get("c1") == expected
        assert await here.find() == [expected]

    await stale(opening, work)


async def test_without_its_feed_a_process_reads_the_store(opening: OpenGames) -> None:
    async with opening(Case) as here, opening(Case) as there:
        await here.find_one_and_upsert(Case("c1"))
        await here._feed.stop()
        assert await here.get("c1")
        await there.find_one_and_update("c1", set_note(2))
        found = await here.get("c1")
        assert found == Case("c1", {"n": 2}, version=2)


# Types change, and histories fold


class Address1(msgspec.Struct):
    """An address."""

    street: str = ""


class Address2(msgspec.Struct):
    """The same with a field more."""

    street: str = ""
    city: str = "unknown"


class User1(msgspec.Struct):
    """A user of the first deployment."""

    id: str
    name: str = ""
    address: Address1 = msgspec.field(default_factory=Address1)
    places: list[Address1] = []


class User2(msgspec.Struct):
    """A user with more fields, which have defaults; in its parts too."""

    id: str
    name: str = ""
    address: Address2 = msgspec.field(default_factory=Address2)
    places: list[Address2] = []
    phone: str = ""
    tags: list[str] = []


class User3(BaseModel):
    """A user whose name has another name, without places."""

    id: str
    full_name: str = ""
    phone: str | None = None
    tags: list[str] = ["new"]


def name_it(user: Any, text: str) -> None:
    setattr(user, "full_name" if isinstance(user, User3) else "name", text)


def call(user: Any) -> None:
    user.phone = "123"


def move(user: Any) -> None:
    user.address.city = "Seoul"
    user.places.append(type(user.places[0])("second"))


EVOLVED: list[tuple[Any, Callable[[Any], Any]]] = [
    (User2, call),
    (User2, lambda user: user.tags.append("vip")),
    (User2, move),
    (User3, lambda user: user.tags.append("vip")),
    (User3, lambda user: name_it(user, "Bob")),
    (User1, lambda user: name_it(user, "Cid")),
    (User2, lambda user: name_it(user, "Dan")),
]


@pytest.mark.parametrize("adopted", [False, True])
async def test_each_patch_applies_to_what_the_patches_before_have_made(
    opening: OpenGames, adopted: bool
) -> None:
    first = User1("u1", "Ann", Address1("Main"), [Address1("first")])
    fields = {**msgspec.to_builtins(first), "legacy": {"kept": True}}
    fields.pop("id")
    if adopted:
        await opening.store.project([StoredDocument("u1", 4, fields)])
    else:
        async with opening(User1) as users:
            await users.find_one_and_upsert(first)
    for kind, edit in EVOLVED:
        async with opening(kind, version_field="version") as users:
            edited, diff = await users.find_one_and_update("u1", edit)
            assert diff.has_changes
            assert await users.get("u1") == edited
    async with opening(User2) as users:
        changes = await users.get_missing_events("u1")
        await users.delete_one("u1")
        await users.find_one_and_upsert(User2("u1"))
    folded: Any = changes[0].metadata.get("adopted_doc", {})
    for change in changes:
        folded = jsonpatch.apply_patch(folded, change.diff.json_patch)
    assert folded["name"] == "Dan"
    assert ("legacy" in folded) == adopted
    assert folded["phone"] == "123"
    assert [each["street"] for each in folded["places"]] == ["first", "second"]
    domain = document_domain("games", User1)
    live = LiveState("u1", domain.state(), changes[0].version - 1)
    async for event in opening.store.changes("u1", 0):
        event = msgspec.structs.replace(event, type=f"User1{event.type[5:]}")
        live.fold(domain, event)
        if event.version == changes[-1].version:
            assert live.state.document == folded
    assert live.state.document["name"] == ""


async def test_a_field_that_a_nested_type_does_not_have_stays(opening: OpenGames) -> None:
    async with opening(User2) as newer:
        await newer.find_one_and_upsert(User2("u1", address=Address2("Main", "Seoul")))
    async with opening(User1) as older:
        await older.find_one_and_update("u1", lambda user: name_it(user, "Ann"))
        await older.find_one_and_update("u1", lambda user: setattr(user.address, "street", "Side"))
    async with opening(User2) as newer:
        assert (await newer.get("u1")).address == Address2("Side", "Seoul")


class Renaming(BaseModel):
    """A type that makes one field of another, as upcasters do."""

    id: str
    full_name: str = ""

    def __init__(self, **fields: Any) -> None:
        if "name" in fields:
            fields["full_name"] = fields.pop("name")
        super().__init__(**fields)

    @classmethod
    def model_validate(cls, obj: Any, **_: Any) -> "Renaming":  # type: ignore[override]
        return cls(**obj)


async def test_a_type_that_lifts_old_fields_keeps_its_edits(opening: OpenGames) -> None:
    await opening.store.project([StoredDocument("u1", 1, {"name": "Ann"})])
    async with opening(Renaming) as users:
        edited, _ = await users.find_one_and_update("u1", lambda user: name_it_full(user, "Bob"))
        assert edited.full_name == "Bob"
        assert (await users.get("u1")).full_name == "Bob"


def name_it_full(user: Any, text: str) -> None:
    user.full_name = text


async def test_no_change_is_stored_of_defaults_alone(opening: OpenGames) -> None:
    async with opening(User1) as older:
        await older.find_one_and_upsert(User1("u1"))
    async with opening(User2) as newer:
        assert not (await newer.find_one_and_update("u1", lambda user: None))[1].has_changes


# Large documents


def large(fill: str) -> dict[str, Any]:
    return {"text": fill * (MEGABYTES_6 // 2), "rows": [fill * 100] * (MEGABYTES_6 // 206)}


def value_bytes(event: EventRecord) -> int:
    return len(msgspec.json.encode(event))


async def test_documents_of_6_megabytes_are_made_adopted_edited_and_deleted(
    opening: OpenGames,
) -> None:
    await opening.store.project([StoredDocument("c2", 3, {"notes": large("b")})])
    async with opening(Case) as cases:
        await cases.find_one_and_upsert(Case("c1", large("a")))
        for id in ("c1", "c2"):
            edited, diff = await cases.find_one_and_update(
                id, lambda case: setattr(case, "free", 1)
            )
            assert (diff.merge_patch["free"], edited.free) == (1, 1)
            assert "notes" not in diff.merge_patch
        swapped, diff = await cases.find_one_and_update(
            "c1", lambda case: setattr(case, "notes", large("c"))
        )
        assert diff.merge_patch["notes"] == swapped.notes == large("c")
        size = len(msgspec.json.encode(swapped))
        for id in ("c1", "c2"):
            await cases.delete_one(id)
            events = [event async for event in opening.store.changes(id, 0)]
            assert max(map(value_bytes, events)) <= 1.3 * size
        changes = await cases.get_missing_events("c1")
        assert changes[0].metadata["created_doc"]["notes"] == large("a")
        assert (await cases.get_missing_events("c2"))[0].metadata["adopted_doc"]["notes"] == large(
            "b"
        )


async def test_a_document_beyond_the_limit_is_refused_by_name_and_size(opening: OpenGames) -> None:
    async with opening(Case) as cases:
        await cases.find_one_and_upsert(Case("c1", {"a": "x" * 9_000_000}))
        with pytest.raises(InvalidDocument, match=r"games 'c1': .* has \d+ bytes, the limit is"):
            await cases.find_one_and_update("c1", lambda case: case.notes.update(b="y" * 9_000_000))
        assert len(await cases.get_missing_events("c1")) == 1


async def test_events_that_hold_both_patches_and_the_document_are_read(opening: OpenGames) -> None:
    """The forms in which earlier releases stored creations, edits and adoptions."""
    created = {"notes": {"a": 1}, "rows": [1], "free": None}
    patch = [{"op": "add", "path": f"/{name}", "value": value} for name, value in created.items()]
    whole = {"is_new": True, "is_deleted": False, "has_changes": True, "merge_patch": created}
    edit = {
        "is_new": False,
        "is_deleted": False,
        "has_changes": True,
        "merge_patch": {"notes": {"b": 2}, "phone": "1"},
        "json_patch": [
            {"op": "add", "path": "/notes/b", "value": 2},
            {"op": "replace", "path": "/phone", "value": "1"},  # it was never stored
        ],
    }
    forms = [
        ("c1", 1, "create", {"version": 1, "json_patch": patch, **whole}, {"created_doc": created}),
        ("c1", 2, "update", {"version": 2, **edit}, {}),
        ("c2", 5, "update", {"version": 5, **edit}, {"adopted_doc": created, "adopted_version": 4}),
    ]
    await opening.store.project([StoredDocument("c2", 4, {**created})])
    async with opening(Case) as cases:
        for id, version, operation, diff, metadata in forms:
            data = {"operation": operation, "diff": diff, "metadata": metadata}
            event = stored_event(f"{id}-{version}", id, version, operation, data)
            await opening.store.insert(event, to_publish=False)
        changes = [*await cases.get_missing_events("c1"), *await cases.get_missing_events("c2")]
        assert [change.diff.merge_patch for change in changes] == [
            created,
            edit["merge_patch"],
            edit["merge_patch"],
        ]
        assert changes[0].metadata == {"created_doc": created}
        assert changes[2].metadata == {"adopted_doc": created, "adopted_version": 4}
        for id, version in (("c1", 2), ("c2", 5)):
            assert await cases.get(id) == Case(id, {"a": 1, "b": 2}, [1], version=version)
            edited, _ = await cases.find_one_and_update(id, lambda case: case.rows.append(2))
            assert edited == Case(id, {"a": 1, "b": 2}, [1, 2], version=version + 1)


def stored_event(id: str, document: str, version: int, operation: str, data: Any) -> EventRecord:
    return EventRecord(
        id=id,
        type=f"Case{operation.capitalize()}d",
        domain="games",
        aggregate_id=document,
        time=datetime(2026, 1, 1, tzinfo=UTC),
        data=data,
        version=version,
    )
