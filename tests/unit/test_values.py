"""One table of values, taken through every door: each takes or refuses an entry alike.

The words are the same; only the place before them is the door's own.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import click
import msgspec
import pytest

from eventfleet import Command, Domain, Emits, Event, Followed, Row, State, View
from eventfleet.buses import CloudEventsSerializer, DocumentEvent
from eventfleet.cli.number_types import Integer, Number
from eventfleet.cli.send import _parse
from eventfleet.deciders.decider import Answer
from eventfleet.deciders.outcomes import Accepted
from eventfleet.documents import MemoryClient, open_storage
from eventfleet.feeds.channel_commands import ChannelCommandSender, ChannelCommandSubscriber
from eventfleet.feeds.feed_session import FeedSession, FollowedDomain
from eventfleet.log_files import Columns, RowProblem, open_log
from eventfleet.log_files.records import ReadyRecord, to_commands, to_events
from eventfleet.roles.append import AppendRole
from eventfleet.roles.command import CommandRole
from eventfleet.runtime.settings import SettingsError, load_settings
from eventfleet.states.view_reader import read_filters
from eventfleet.stores.memory.channels import MemoryChannels
from eventfleet.stores.memory.registry import MemoryRegistry
from eventfleet.topics.codec import encode_digits
from eventfleet.topics.dead_letters import REASON
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.names import Topics
from tests.simulation.in_memory_servers import InMemoryServers, take
from tests.unit.http_fixture import Web, web

DOCS = Path(__file__).parents[2] / "docs" / "values.md"


class Put(Command):
    text: str = ""
    whole: int = 0
    real: float = 0.0
    exact: Decimal = Decimal(0)
    flag: bool = False
    at: datetime | None = None
    names: dict[str, int] = msgspec.field(default_factory=dict)
    numbers: dict[int, str] = msgspec.field(default_factory=dict)
    free: Any = None


class WasPut(Event):
    text: str = ""
    whole: int = 0
    real: float = 0.0
    exact: Decimal = Decimal(0)
    flag: bool = False
    at: datetime | None = None
    names: dict[str, int] = msgspec.field(default_factory=dict)
    numbers: dict[int, str] = msgspec.field(default_factory=dict)
    free: Any = None


class Box(State):
    count: int = 0


BOX = Domain(
    "box",
    state=Box,
    evolve=lambda box, event: Box(count=box.count + 1),
    events=[WasPut],
    commands=[Emits(Put, WasPut)],
    followed=Followed(commands=[Put]),
)
TOPICS = Topics.of("box", "")


class Entry(NamedTuple):
    """A field's value, as JSON text, and as it is stored; or the words by which it is refused."""

    field: str
    written: str
    stored: Any = None
    refused: str = ""


DIGITS = "0.1234567890123456789012"
NESTED = 58
"""Levels that a value may have within a payload, which is within an envelope."""


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


JSON_ENTRIES = [
    Entry("whole", "9223372036854775807", 2**63 - 1),
    Entry("whole", "9223372036854775808", refused="9223372036854775808 is beyond a 64-bit integer"),
    Entry("free", "-9223372036854775808", -(2**63)),
    Entry(
        "free", "-9223372036854775809", refused="-9223372036854775809 is beyond a 64-bit integer"
    ),
    Entry("whole", "5.0", 5),
    Entry("whole", "5e0", 5),
    Entry("whole", "5.5", refused="Expected `int`, got `float`"),
    Entry("whole", '"5"', refused="Expected `int`, got `str`"),
    Entry("whole", "true", refused="Expected `int`, got `bool`"),
    Entry("real", "5", 5.0),
    Entry("real", "6.02214076e23", 6.02214076e23),
    Entry("real", DIGITS, 0.12345678901234568),
    Entry("real", "1e400", refused="1E+400 is beyond a 64-bit float"),
    Entry("free", "1e400", refused="1E+400 is beyond a 64-bit float"),
    Entry("real", "NaN", refused="is not JSON"),
    Entry("exact", DIGITS, DIGITS),
    Entry("exact", "19.90", "19.90"),
    Entry("exact", "7", "7"),
    Entry("exact", f'"{DIGITS}"', DIGITS),
    Entry("exact", '"123456789012345678901234567890"', "123456789012345678901234567890"),
    Entry("exact", '"1_000"', refused="'1_000' is not a number"),
    Entry("exact", '"١٢"', refused="'١٢' is not a number"),
    Entry("exact", '"NaN"', refused="'NaN' is not a number"),
    Entry("exact", '"1,5"', refused="'1,5' is not a number"),
    Entry("exact", "1e400", refused="1E+400 is beyond a 64-bit float"),
    Entry("free", "19.90", 19.9),
    Entry("free", "0.10000000000000001", 0.1),
    Entry(
        "free", DIGITS, refused=f"{DIGITS} has more digits than a number keeps here: send it as a"
    ),
    Entry("free", f'{{"a":["{DIGITS}"]}}', {"a": [DIGITS]}),
    Entry("text", '"größe \\u0000 \\ud83d\\ude00"', "größe \0 😀"),
    Entry("text", '"\\ud800"', refused="is not JSON"),
    Entry("text", "5", refused="Expected `str`, got `int`"),
    Entry("flag", "1", refused="Expected `bool`, got `int`"),
    Entry("at", '"2024-03-01T09:00:00+02:00"', "2024-03-01T09:00:00+02:00"),
    Entry("at", '"soon"', refused="Invalid RFC3339 encoded datetime"),
    Entry("names", '{"a":1,"b":2}', {"a": 1, "b": 2}),
    Entry("names", '{"a":1,"a":2}', refused="is given more than once"),
    Entry("names", '{"a\\u0000b":1}', refused="has a NUL in the key 'a\\x00b'"),
    Entry("numbers", '{"1":"a"}', {"1": "a"}),
    Entry("numbers", '{"one":"a"}', refused="Expected `int`, got `str`"),
    Entry("free", nested(NESTED), msgspec.json.decode(nested(NESTED))),
    Entry("free", nested(70), refused="is nested deeper than 60 levels"),
    Entry("free", nested(5000), refused="is nested deeper than 60 levels"),
    Entry("unknown", "1", refused="is not a known field"),
]


class Door(NamedTuple):
    """What a door made of a value: the payload that would be stored, or the words of a refusal."""

    data: dict[str, Any] | None
    words: str = ""


class Doors:
    """The doors of one service, by name; each is asked with an aggregate's id and a payload."""

    def __init__(self, service: Web, folder: Path) -> None:
        self.service, self.folder = service, folder
        self.memory = InMemoryServers(BOX)
        channels = MemoryChannels()
        self.sender = ChannelCommandSender(channels, "box")
        self.subscriber = ChannelCommandSubscriber(channels, "box", service.service)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Doors"]:
        async with self.subscriber.running(), self.sender.running():
            yield self

    @property
    def all(self) -> Mapping[str, Callable[[str, bytes], Awaitable[Door]]]:
        return {
            "http": self.http,
            "command line": self.command_line,
            "socket": self.socket,
            "commands in Kafka": self.kafka_command,
            "events in Kafka": self.kafka_event,
            "JSON lines as commands": self.json_line_command,
            "JSON lines as events": self.json_line_event,
        }

    def decided(self) -> Door:
        return Door(msgspec.to_builtins(self.service.storing.asked.pop().event.data))

    async def http(self, id: str, payload: bytes) -> Door:
        answer = await self.service.client.post(
            f"/domains/box/{quote(id, safe='')}/commands/Put",
            content=payload,
            headers={"content-type": "application/json"},
        )
        if answer.status_code == 422:
            return Door(None, answer.json()["reason"])
        assert answer.status_code == 202, answer.text
        return self.decided()

    async def command_line(self, id: str, payload: bytes) -> Door:
        """`eventfleet send`, which reads the payload, and passes it on to the service."""
        try:
            data = _parse(payload)
        except click.UsageError as error:
            return Door(None, error.message)
        return await self.http(id, encode_digits(data))

    async def socket(self, id: str, payload: bytes) -> Door:
        told: list[bytes] = []

        async def send(frame: bytes) -> None:
            told.append(frame)

        async def frames() -> AsyncIterator[bytes]:
            yield b'{"id":"1","command":"Put","data":%b}' % payload

        followed = FollowedDomain(BOX, None, None, self.sender)  # type: ignore[arg-type]
        await FeedSession(followed, id, "ann", send, nullcontext())._take_commands(
            frames(), may_write=True
        )
        [answer] = map(msgspec.json.decode, told)
        if answer["kind"] == "outcome" and answer["outcome"] == "accepted":
            return self.decided()
        return Door(None, answer["reason"])

    async def kafka_command(self, id: str, payload: bytes) -> Door:
        memory, decider = InMemoryServers(BOX), Capturing()
        role = CommandRole(
            *(BOX, 0, decider, MemoryRegistry(), memory.writer("append"), memory.clock)
        )
        await role.open()
        await memory.put(TOPICS.commands, (id, envelope(b"Put", id, payload)))
        records = memory.records(TOPICS.commands)
        await role.process(records, len(records))
        if decider.asked:
            return Door(msgspec.to_builtins(decider.asked[-1].event.data))
        [letter] = memory.records(TOPICS.dead_letters)
        return Door(None, dict(letter.headers)[REASON].decode())

    async def kafka_event(self, id: str, payload: bytes, domain: Domain[Any] = BOX) -> Door:
        memory = InMemoryServers(domain)
        append = AppendRole(
            *(domain, 0, memory.events, memory.writer("append"), memory.clock),
            memory.append_parking(),
            cached=10,
        )
        await append.open()
        await memory.put(TOPICS.events, (id, envelope(b"WasPut", id, payload)))
        await take(append, memory.records(TOPICS.events))
        if stored := await memory.history(id):
            return Door(stored[0].data)
        [letter] = memory.records(TOPICS.dead_letters)
        return Door(None, dict(letter.headers)[REASON].decode())

    async def json_line_command(self, id: str, payload: bytes) -> Door:
        [row] = self.rows(id, payload, "Put")
        if isinstance(row, RowProblem):
            return Door(None, row.reason)
        [made] = to_commands([row], BOX)
        if isinstance(made, RowProblem):
            return Door(None, made.reason)
        assert isinstance(made, ReadyRecord)
        payload = bytes(msgspec.json.decode(made.value, type=dict[str, msgspec.Raw])["data"])
        return await self.kafka_command(id, payload)

    async def json_line_event(self, id: str, payload: bytes) -> Door:
        [made] = to_events(self.rows(id, payload, "WasPut"), BOX)
        if isinstance(made, RowProblem):
            return Door(None, made.reason)
        return Door(msgspec.json.decode(made.value)["data"])

    def rows(self, id: str, payload: bytes, activity: str) -> Any:
        path = self.folder / "a.jsonl"
        case = msgspec.json.encode(id)
        path.write_bytes(b'{"case":%b,"at":"2024-03-01","data":%b}' % (case, payload))
        columns = Columns(case="case", time="at", fixed_activity=activity)
        with open_log(path, columns) as rows:
            return list(rows)


class Capturing:
    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def decide(
        self, asked: Sequence[Any], deadline: datetime, answer: Answer, *_: object
    ) -> None:
        for index, each in enumerate(asked):
            self.asked.append(each)
            answer(index, Accepted("e", "box.events/0"))


def envelope(kind: bytes, id: str, payload: bytes) -> bytes:
    fields = (kind, msgspec.json.encode(id), payload)
    return (
        b'{"specversion":"1.0","id":"i","type":"%b","source":"box","subject":%b,'
        b'"time":"2024-01-01T00:00:00.000000Z","data":%b}'
    ) % fields


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    async with web(BOX) as service, Doors(service, tmp_path).running() as doors:
        yield doors


@pytest.mark.parametrize("entry", JSON_ENTRIES, ids=lambda e: f"{e.field}={e.written[:30]}")
async def test_every_door_takes_or_refuses_a_json_value_alike(doors: Doors, entry: Entry) -> None:
    payload = f'{{"{entry.field}":{entry.written}}}'.encode()
    for name, ask in doors.all.items():
        found = await ask("a", payload)
        if entry.refused:
            assert found.data is None, (name, found)
            assert entry.refused in found.words, name
        else:
            assert found.data is not None, (name, found.words)
            kept = msgspec.convert(found.data, WasPut, str_keys=True)
            stored = msgspec.to_builtins(kept, str_keys=True)[entry.field]
            assert stored == entry.stored, name


TEXT_ENTRIES = [
    Entry("whole", "5", 5),
    Entry("whole", " 5 ", 5),
    Entry("whole", "9223372036854775807", 2**63 - 1),
    Entry("whole", "9223372036854775808", refused="9223372036854775808 is beyond a 64-bit integer"),
    Entry("real", "-12.50", -12.5),
    Entry("real", "6.02214076e23", 6.02214076e23),
    Entry("real", DIGITS, 0.12345678901234568),
    Entry("real", "1e400", refused="1E+400 is beyond a 64-bit float"),
    Entry("exact", DIGITS, DIGITS),
    *[
        Entry(field, text, refused=f"{text!r} is not a number")
        for field in ("whole", "real")
        for text in ("1_000", "١٢", "+5", "007", "1,5", "1.000,5", "NaN", "inf", ".5", "5.", "0x1f")
    ],
    Entry("text", "größe 😀", "größe 😀"),
]
"""Numbers and texts as cells of CSV, and as values of XES."""


@pytest.mark.parametrize("entry", TEXT_ENTRIES, ids=lambda e: f"{e.field}={e.written}")
def test_every_file_takes_or_refuses_a_value_that_is_written_as_text_alike(
    tmp_path: Path, entry: Entry
) -> None:
    kind = {"whole": "int", "text": "string"}.get(entry.field, "float")
    files = {
        "a.csv": f'case,when,{entry.field}\na,2024-03-01,"{entry.written}"\n',
        "a.xes": '<log><trace><event><string key="case" value="a"/>'
        '<date key="when" value="2024-03-01"/>'
        f'<{kind} key="{entry.field}" value="{entry.written}"/></event></trace></log>',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        columns = Columns(case="case", time="when", fixed_activity="WasPut")
        with open_log(tmp_path / name, columns) as rows:
            [made] = to_events(rows, BOX)
        if entry.refused:
            assert isinstance(made, RowProblem), name
            assert entry.refused in made.reason
        else:
            assert isinstance(made, ReadyRecord), (name, made)
            kept = msgspec.convert(msgspec.json.decode(made.value)["data"], WasPut)
            assert msgspec.to_builtins(kept)[entry.field] == entry.stored, name


class Crate(Row):
    whole: int = 0
    real: float = 0.0
    exact: Decimal = Decimal(0)
    text: str = ""


CRATES = View("crates", row=Crate, project=lambda row, event: Crate())


@pytest.mark.parametrize("entry", TEXT_ENTRIES, ids=lambda e: f"{e.field}={e.written}")
def test_a_filter_of_a_view_takes_or_refuses_a_text_as_files_do(entry: Entry) -> None:
    asked = {f"{entry.field}.gte": entry.written}
    if entry.refused:
        with pytest.raises(InvalidRecord) as refused:
            read_filters(CRATES, asked)
        assert entry.refused in refused.value.reason
    else:
        [found] = read_filters(CRATES, asked)
        assert found.value == entry.stored


@pytest.mark.parametrize("written", ["0", "1.5", "2024-03-01T09:00:00", "soon"])
def test_a_filter_by_a_time_takes_no_number_for_it(written: str) -> None:
    class Dated(Row):
        at: datetime | None = None

    dated = View("dated", row=Dated, project=lambda row, event: Dated())
    with pytest.raises(InvalidRecord):
        read_filters(dated, {"at": written})
    assert read_filters(dated, {"at": "null"})[0].value is None


NUMBERS = [each for each in TEXT_ENTRIES if each.field in ("whole", "real")]


@pytest.mark.parametrize("entry", NUMBERS, ids=lambda e: f"{e.field}={e.written}")
def test_a_setting_takes_or_refuses_a_number_as_files_do(
    entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = {"whole": "HTTP_REQUESTS", "real": "KAFKA_METADATA_AGE"}[entry.field]
    monkeypatch.setenv(f"EVENTFLEET_{name}", entry.written)
    if entry.refused:
        with pytest.raises(SettingsError) as refused:
            load_settings()
        assert entry.refused in str(refused.value)
    elif entry.stored > 0:
        assert getattr(load_settings(), name.lower()) == entry.stored


@pytest.mark.parametrize("entry", NUMBERS, ids=lambda e: f"{e.field}={e.written}")
def test_an_option_takes_or_refuses_a_number_as_files_do(entry: Entry) -> None:
    kind: click.ParamType = {"whole": Integer(), "real": Number()}[entry.field]
    if entry.written == " 5 ":
        return  # a shell has taken off the spaces that are not meant
    if entry.refused:
        with pytest.raises(click.BadParameter) as refused:
            kind.convert(entry.written, None, None)
        assert entry.refused in refused.value.message
    else:
        assert kind.convert(entry.written, None, None) == entry.stored


INTEGER_ENTRIES = [
    *[each for each in NUMBERS if each.field == "whole" and each.refused],
    *[
        Entry("whole", text, refused=f"{text!r} is not an integer")
        for text in ("5.0", "5e0", " 5", "5 ")
    ],
]


@pytest.mark.parametrize("entry", INTEGER_ENTRIES, ids=lambda e: e.written)
@pytest.mark.parametrize("path", ["a/events?limit=", "a/state?version=", "a/missing?after="])
async def test_a_parameter_of_a_query_and_an_option_are_integers_of_digits_alone(
    doors: Doors, path: str, entry: Entry
) -> None:
    answer = await doors.service.client.get(f"/domains/box/{path}{quote(entry.written)}")
    assert (answer.status_code, answer.json()["reason"]) == (422, entry.refused)
    with pytest.raises(click.BadParameter) as refused:
        Integer().convert(entry.written, None, None)
    assert refused.value.message == entry.refused


@pytest.mark.parametrize("written", ["soon", "2024-03-01T09:00:00", "0"])
async def test_a_time_of_a_query_is_one_of_json(doors: Doors, written: str) -> None:
    answer = await doors.service.client.get(f"/domains/box/a/state?at={quote(written)}")
    refused = await doors.http("a", f'{{"at":"{written}"}}'.encode())
    assert answer.status_code == 422
    if "T" not in written:  # a payload may declare a time without an offset
        assert answer.json()["reason"] == refused.words


FREE_ENTRIES = [
    *[each for each in JSON_ENTRIES if each.field == "free"],
    *[
        each._replace(field="free")
        for each in JSON_ENTRIES
        if each.refused in ("is not JSON", "is given more than once")
        or each.refused.startswith("has a NUL")
    ],
]


@pytest.mark.parametrize("entry", FREE_ENTRIES, ids=lambda e: e.written[:30])
def test_a_bus_takes_or_refuses_a_json_value_as_topics_do(entry: Entry) -> None:
    payload = f'{{"free":{entry.written}}}'.encode()
    value = envelope(b"WasPut", "a", payload).replace(b'"data"', b'"version":1,"data"')
    if entry.refused:
        with pytest.raises(InvalidRecord) as refused:
            CloudEventsSerializer().decode(value)
        assert entry.refused in refused.value.reason
    else:
        event = CloudEventsSerializer().decode(value)
        assert event.data["free"] == entry.stored
        assert CloudEventsSerializer().decode(CloudEventsSerializer().encode(event)) == event


class Note(msgspec.Struct):
    id: str
    free: Any = None
    exact: Decimal = Decimal(0)


def deep(levels: int) -> Any:
    return [] if levels == 1 else [deep(levels - 1)]


PYTHON_ENTRIES: list[tuple[Any, str]] = [
    (2**63 - 1, ""),
    (1e300, ""),
    ({"a": [deep(50)]}, ""),
    (2**63, "9223372036854775808 is beyond a 64-bit integer"),
    (float("inf"), "inf is not a number that JSON has"),
    ({"a": [float("nan")]}, "nan is not a number that JSON has"),
    (Decimal("NaN"), "NaN is not a number that JSON has"),
    ({"a\0b": 1}, "has a NUL in the key 'a\\x00b'"),
    ("\ud800", "is not JSON"),
    (deep(70), "is nested deeper than 60 levels"),
    (deep(900), "is nested deeper than 60 levels"),
]
"""Values of Python code, and the words by which they are refused."""


@pytest.mark.parametrize(("value", "words"), PYTHON_ENTRIES, ids=lambda v: ascii(v)[:30])
async def test_commands_documents_and_buses_take_or_refuse_a_value_of_python_alike(
    doors: Doors, value: Any, words: str
) -> None:
    async def send() -> object:
        return await doors.service.service.send("a", Put(free=value))

    async def write() -> object:
        async with open_storage(MemoryClient(), "box", "notes", Note) as notes:
            field = "exact" if isinstance(value, Decimal) else "free"
            return await notes.find_one_and_upsert(Note("a", **{field: value}))

    async def publish() -> object:
        about = {"aggregate_type": "Note", "version": 1, "timestamp": datetime.now(UTC)}
        event = DocumentEvent(
            id="e", event_type="Noted", aggregate_id="a", data={"free": value}, **about
        )
        return CloudEventsSerializer().encode(event)

    for door in (send, write, publish):
        if words:
            with pytest.raises(InvalidRecord) as refused:
                await door()
            assert words in refused.value.reason, door
        else:
            await door()


ID_ENTRIES = [
    Entry("id", "a"),
    Entry("id", "größe/😀 %2F"),
    Entry("id", "é" * 255),
    Entry("id", "é" * 256, refused="has more than 255 characters"),
    Entry("id", "a\0b", refused="has a NUL"),
    Entry("id", "", refused="is empty"),
]


@pytest.mark.parametrize("entry", ID_ENTRIES, ids=lambda e: ascii(e.written[:20]))
async def test_every_door_takes_or_refuses_an_id_alike(doors: Doors, entry: Entry) -> None:
    for name, ask in doors.all.items():
        if name in ("http", "command line", "socket") and not entry.written:
            continue  # a path without an id is another path
        found = await ask(entry.written, b"{}")
        assert (found.data is None) == bool(entry.refused), (name, found)
        assert entry.refused in found.words, name
    if "\0" in entry.written:
        return  # no line of CSV has one
    path = tmp_csv(doors.folder, entry.written)
    with open_log(path, Columns(case="case", time="at", fixed_activity="Put")) as rows:
        [row] = rows
    assert isinstance(row, RowProblem) == bool(entry.refused)
    assert not isinstance(row, RowProblem) or row.reason in (entry.refused, "is missing")


def tmp_csv(folder: Path, case: str) -> Path:
    path = folder / "a.csv"
    path.write_text(f'case,at\n"{case}",2024-03-01\n', encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("written", "refused"), [('{"a":1,"a":2}', "is given more than once"), (DIGITS, "more digits")]
)
async def test_events_of_others_are_checked_also_where_nothing_is_declared(
    doors: Doors, written: str, refused: str
) -> None:
    payload = f'{{"free":{written}}}'.encode()
    free = replace(BOX, events=(), commands=(), followed=None)
    found = await doors.kafka_event("a", payload, free)
    assert found.data is None
    assert refused in found.words


@pytest.mark.parametrize(
    "number", [float("inf"), float("nan"), Decimal("NaN"), Decimal("-Infinity")]
)
async def test_a_number_that_json_has_not_is_refused_of_python_too(
    doors: Doors, number: float | Decimal
) -> None:
    field = "real" if isinstance(number, float) else "exact"
    with pytest.raises(InvalidRecord) as refused:
        await doors.service.service.send("a", Put(**{field: number}))
    assert str(refused.value) == f"data.{field}: {number} is not a number that JSON has"


def test_the_table_of_the_docs_has_the_words_of_each_refusal() -> None:
    text = DOCS.read_text(encoding="utf-8")
    words = {
        *("is beyond a 64-bit integer", "is beyond a 64-bit float", "is not a number"),
        *("has more digits than a number keeps here: send it as a text", "is not JSON"),
        *("is nested deeper than 60 levels", "is given more than once", "has a NUL"),
        *(
            "has more than 255 characters",
            "is empty",
            "is not UTF-8",
            "is not a number that JSON has",
        ),
    }
    assert {each for each in words if each not in text} == set()
    found = {entry.refused for entry in (*JSON_ENTRIES, *TEXT_ENTRIES, *ID_ENTRIES)}
    told = [each for each in found if not each.startswith(("", "Expected", "Invalid RFC3339")[1:])]
    assert {each for each in told if not any(word[:30] in each for word in words)} == {
        "",
        "is not a known field",
    }
