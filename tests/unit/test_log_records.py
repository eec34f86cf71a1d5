"""From rows to events: ids, payloads, and what a domain refuses."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from eventfleet import Command, Domain, Emits, Event, State
from eventfleet.deciders.command_parser import parse_command
from eventfleet.domains.bank import bank
from eventfleet.domains.orders import orders
from eventfleet.domains.process_log import process_log
from eventfleet.log_files import Columns, RowProblem, open_log
from eventfleet.log_files.records import ReadyRecord, to_commands, to_events
from eventfleet.log_files.rows import LogRow, Origin
from eventfleet.topics.codec import decode, decode_command
from eventfleet.topics.event import EventRecord
from tests.unit.row_files import write

DATA = Path(__file__).parent / "data"
LINE = Origin("a.jsonl", "line")
CELLS = Origin("a.csv", "line", textual=True)
TIME = datetime(2024, 3, 1, 9, tzinfo=UTC)


class Read(Command):
    value: float | None = None


class ValueRead(Event):
    value: float | None = None


class Meter(State):
    value: float | None = None


METER = Domain(
    "meter",
    state=Meter,
    evolve=lambda meter, event: Meter(value=event.value),
    events=[ValueRead],
    commands=[Emits(Read, ValueRead)],
)
PLACED = {"customer": "Ada", "total": 1250, "currency": "EUR"}


def row(activity: str, data: dict[str, Any], origin: Origin = LINE, number: int = 1) -> LogRow:
    return LogRow(origin, number, "order-1", activity, TIME, data)


def events(rows: list[LogRow], domain: Any = orders) -> list[EventRecord]:
    made = list(to_events(rows, domain))
    assert not [str(item) for item in made if isinstance(item, RowProblem)]
    return [item.event for item in made if not isinstance(item, RowProblem)]


def problem(item: LogRow, domain: Any = orders) -> str:
    [made] = to_events([item], domain)
    assert isinstance(made, RowProblem)
    return str(made)


def test_a_schema_free_domain_takes_the_activity_as_type_and_the_columns_as_they_are() -> None:
    [event] = events([row("Any thing", {"n": 1, "org:resource": "R1"})], process_log)
    assert (event.domain, event.type, event.aggregate_id) == ("process_log", "Any thing", "order-1")
    assert (event.time, event.data) == (TIME, {"n": 1, "org:resource": "R1"})
    assert (event.version, event.position, event.prev) == (0, None, None)


def test_the_bytes_are_the_event_as_the_log_has_it() -> None:
    [made] = to_events([row("Placed", PLACED)], orders)
    assert not isinstance(made, RowProblem)
    assert decode(made.value) == made.event


def test_a_typed_payload_is_the_data_object_or_else_the_other_columns() -> None:
    columns = Columns.of(orders)
    with open_log(DATA / "orders.jsonl", columns) as log:
        made = events([item for item in log if isinstance(item, LogRow)])
    assert [(e.aggregate_id, e.type, e.data) for e in made] == [
        ("order-1", "Placed", PLACED),
        ("order-2", "Placed", {"customer": "Grace", "total": 900, "currency": "USD"}),
        ("order-1", "Paid", {"amount": 1250}),
        ("order-1", "Delivered", {}),
    ]
    assert [e.schema_version for e in made] == [2, 2, 1, 1]


def test_cells_of_a_typed_payload_get_the_types_of_its_schema(tmp_path: Path) -> None:
    text = (
        "case:concept:name,type,time:timestamp,customer,total,currency,reason\n"
        "7,Placed,2024-03-01,42,1250,EUR,\n"
        "7,Cancelled,2024-03-02,,,,\n"
    )
    with open_log(write(tmp_path / "a.csv", text), Columns.of(orders)) as log:
        made = events([item for item in log if isinstance(item, LogRow)])
    assert [e.data for e in made] == [{"customer": "42", "total": 1250, "currency": "EUR"}, {}]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            row("Lost", {}),
            "a.jsonl, line 1: type: 'Lost' is not one of "
            "Cancelled, Delivered, Packed, Paid, Placed, Returned, Shipped",
        ),
        (row("Paid", {}), "a.jsonl, line 1: data.amount: is missing"),
        (row("Paid", {"amount": "5"}), "a.jsonl, line 1: data.amount: Expected `int`, got `str`"),
        (row("Paid", {"amount": 0}), "a.jsonl, line 1: data.amount: Expected `int` >= 1"),
        (
            row("Paid", {"amount": 5, "tip": 1}),
            "a.jsonl, line 1: data.tip: is not a known field",
        ),
        (
            row("Paid", {"data": {"amount": 5}, "tip": 1}),
            "a.jsonl, line 1: data: is an object, but the row has other columns too: tip",
        ),
        (
            row("Paid", {"amount": "five"}, CELLS),
            "a.csv, line 1: data.amount: 'five' is not a number",
        ),
        (
            row("Paid", {"amount": "9223372036854775808"}, CELLS),
            "a.csv, line 1: data.amount: 9223372036854775808 is beyond a 64-bit integer",
        ),
    ],
)
def test_what_an_events_schema_refuses_is_named_with_field_and_reason(
    item: LogRow, message: str
) -> None:
    assert problem(item).startswith(message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"n": 2**63}, "data.n: "),
        ({"n": 2**64}, "data: "),
        ({"text": "x" * 1_000_000}, "value: has 1000"),
    ],
)
def test_what_append_would_refuse_is_refused_here(data: dict[str, Any], message: str) -> None:
    assert problem(row("Any", data), process_log).startswith(f"a.jsonl, line 1: {message}")


def test_nesting_that_append_would_refuse_is_refused_here() -> None:
    deep: Any = 0
    for _ in range(300):
        deep = [deep]
    assert problem(row("Any", {"deep": deep}), process_log).startswith("a.jsonl, line 1: data")


def test_a_second_load_makes_the_same_ids_and_true_duplicates_differ() -> None:
    rows = [row("Any", {"n": 1}), row("Any", {"n": 2}), row("Any", {"n": 1}), row("Any", {"n": 1})]
    ids = [event.id for event in events(rows, process_log)]
    assert len(set(ids)) == 4
    assert ids == [event.id for event in events(rows, process_log)]
    assert {UUID(each).version for each in ids} == {5}


def test_ids_depend_on_content_and_not_on_the_order_of_columns_or_rows() -> None:
    one, other = row("Any", {"a": 1, "b": 2}), row("Any", {"b": 2, "a": 1}, number=9)
    assert events([one], process_log)[0].id == events([other], process_log)[0].id
    assert (
        events([row("Any", {})], process_log)[0].id != events([row("Other", {})], process_log)[0].id
    )


@pytest.mark.parametrize(
    "other",
    [
        row("Paid", {"amount": 2}),
        row("Returned", {"refund": 1}),
        row("Paid", {"amount": 1})._replace(case="order-2"),
        row("Paid", {"amount": 1})._replace(time=TIME.replace(second=1)),
    ],
)
def test_any_difference_of_content_makes_another_id(other: LogRow) -> None:
    one, two = events([row("Paid", {"amount": 1}), other])
    assert one.id != two.id


def test_ids_of_domains_differ() -> None:
    one = events([row("Paid", {"amount": 1})])
    two = events([row("Paid", {"amount": 1})], process_log)
    assert one[0].id != two[0].id


def test_an_id_is_the_standards_uuid5_of_the_content_and_its_ordinal() -> None:
    twice = [row("Paid", {"b": "é", "a": 1}), row("Paid", {"b": "é", "a": 1})]
    content = '["process_log","order-1","Paid","2024-03-01T09:00:00+00:00",{"a":1,"b":"é"}]'
    namespace = UUID("58574f70-600a-47e6-a56c-addf6c35f552")
    assert [event.id for event in events(twice, process_log)] == [
        str(uuid5(namespace, f"{content}{ordinal}")) for ordinal in (0, 1)
    ]


# Commands of tables


def commands(rows: list[LogRow], domain: Any) -> list[EventRecord]:
    made = list(to_commands(rows, domain))
    assert not [str(item) for item in made if isinstance(item, RowProblem)]
    return [item.event for item in made if not isinstance(item, RowProblem)]


def test_a_command_has_the_rows_id_time_and_actor_in_any_domain() -> None:
    placed, opened = row("Place", PLACED), row("Open", {"owner": "Ada", "currency": "EUR"})
    for item, domain in ((placed, orders), (opened, bank), (row("x", {}), process_log)):
        item = item._replace(id="7", actor="ann")
        [made] = to_commands([item], domain)
        assert not isinstance(made, RowProblem)
        command = decode_command(made.value)
        assert (command.id, command.actor, command.time) == ("7", "ann", TIME)
        event = parse_command(domain, command).event
        assert (event.causation_id, event.actor, event.time) == ("7", "ann", TIME)


def test_an_events_id_and_actor_are_the_rows_too() -> None:
    [event] = events([row("Any", {})._replace(id="7", actor="ann")], process_log)
    assert (event.id, event.actor) == ("7", "ann")


def test_a_column_that_an_option_names_is_data_where_the_payload_has_its_field(
    tmp_path: Path,
) -> None:
    text = "id,customer,total,currency,placed\n7,ann,1250,EUR,2024-03-01\n"
    columns = Columns(case="id", time="placed", id="id", actor="customer", fixed_activity="Place")
    with open_log(write(tmp_path / "a.csv", text), columns) as log:
        [command] = commands([item for item in log if isinstance(item, LogRow)], orders)
    assert (command.id, command.aggregate_id, command.actor) == ("7", "7", "ann")
    assert command.data == {"customer": "ann", "total": 1250, "currency": "EUR"}


def test_an_id_of_content_tells_actors_apart_and_not_where_data_came_from() -> None:
    plain = row("Cancel", {})
    ann, bob = (plain._replace(actor=actor) for actor in ("ann", "bob"))
    ids = [command.id for command in commands([plain, ann, bob], orders)]
    assert len(set(ids)) == 3
    named = plain._replace(named={"reason": "late", "order": "order-1"})
    [command] = commands([named], orders)
    assert command.data == {"reason": "late"}
    assert command.id == ids[0]


def test_a_payload_in_an_object_of_its_own_is_the_whole_payload_and_its_ids_too() -> None:
    columns = {"reason": "of the row", "order": "order-1"}
    late, broken = (
        row("Cancel", {"data": {"reason": reason}})._replace(named=columns)
        for reason in ("late", "broken")
    )
    one, other = commands([late, broken], orders)
    assert (one.data, other.data) == ({"reason": "late"}, {"reason": "broken"})
    [again] = commands([broken], orders)
    assert again.id == other.id != one.id


def test_a_comma_may_be_the_decimal_mark() -> None:
    origin = CELLS._replace(decimal=",")
    [ready] = to_commands([LogRow(origin, 1, "m-1", "Read", TIME, {"value": "-12,5"})], METER)
    assert isinstance(ready, ReadyRecord)
    assert ready.event.data == {"value": -12.5}
    for cell in ("1.500", "1.234,5", "1,2,3", ""):
        [bad] = to_commands([LogRow(origin, 1, "m-1", "Read", TIME, {"value": cell})], METER)
        assert str(bad).endswith(f"data.value: {cell!r} is not a number with ',' as decimal mark")


@pytest.mark.parametrize("cell", ["1_000", "١٢", "+5", "007", "1,5", "NaN", "inf", ".5", "5."])
def test_a_number_in_a_cell_is_written_as_json_writes_it(cell: str) -> None:
    [bad] = to_commands([LogRow(CELLS, 1, "m-1", "Read", TIME, {"value": cell})], METER)
    assert str(bad).endswith(f"data.value: {cell!r} is not a number")


def test_a_command_without_a_time_gets_that_of_the_load_and_the_same_id_each_time() -> None:
    rows = [row("Deposit", {"amount": "12"}, CELLS)._replace(time=None)]
    before = datetime.now(UTC).replace(microsecond=0)
    one, other = (*to_commands(rows, bank), *to_commands(rows, bank))
    assert isinstance(one, ReadyRecord)
    assert isinstance(other, ReadyRecord)
    assert one.event.id == other.event.id
    assert before <= one.event.time <= datetime.now(UTC)


def test_a_bad_row_is_named_and_the_rows_after_it_become_commands() -> None:
    rows = [
        row("Deposit", {"amount": "12.5"}, CELLS, 2)._replace(id="1"),
        row("Deposit", {"amount": "12", "note": "x"}, CELLS, 3)._replace(id="2"),
        row("Deposit", {"amount": "12"}, CELLS, 4)._replace(id="3"),
    ]
    first, second, third = to_commands(rows, bank)
    assert str(first) == "a.csv, line 2: data.amount: Expected `int`, got `float`"
    assert str(second) == "a.csv, line 3: data.note: is not a known field"
    assert not isinstance(third, RowProblem)
    assert third.event.data == {"amount": 12}
