"""Command, handlers, Dispatcher and middleware, of document 003's `pkg/command`."""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from eventfleet import Command as Payload
from eventfleet import InvalidRecord
from eventfleet.aggregates import (
    AlreadyRegistered,
    CallNext,
    CommandEnvelope,
    Dispatcher,
    NotRegistered,
    RetryOnConflict,
)
from eventfleet.stores.errors import EditConflict


class Deposit(Payload):
    amount: Annotated[int, Meta(ge=1)]


class CreateUser(msgspec.Struct):
    name: str
    tags: list[str] = []


@dataclass
class ChangeEmail:
    email: str
    notify: bool = True


def take(command: CommandEnvelope[Any]) -> CommandEnvelope[Any]:
    return command


# Command


def test_a_command_has_a_name_an_aggregate_a_payload_and_an_id() -> None:
    command = CommandEnvelope.of("CreateUser", "user123", {"name": "John Doe"})
    assert (command.name, command.aggregate_id) == ("CreateUser", "user123")
    assert (command.payload, command.metadata) == ({"name": "John Doe"}, {})
    assert command.id
    assert command.id != CommandEnvelope.of("CreateUser", "user123", {}).id


@pytest.mark.parametrize("payload", [Deposit(amount=1), CreateUser("John"), ChangeEmail("a@b")])
def test_a_typed_command_has_the_name_of_its_payloads_class(payload: Any) -> None:
    command = CommandEnvelope.of(payload, "user123", id="c1", metadata={"actor": "ann"})
    assert (command.name, command.payload) == (type(payload).__name__, payload)
    assert (command.id, command.metadata) == ("c1", {"actor": "ann"})


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("", "user123", {}), "name"),
        (("CreateUser", "", {}), "aggregate_id"),
        (("CreateUser", "x" * 256, {}), "aggregate_id"),
        (("CreateUser", "a\0b", {}), "aggregate_id"),
        (("CreateUser", 7, {}), "aggregate_id"),
    ],
)
def test_a_command_that_is_addressed_wrongly_names_the_field(arguments: Any, field: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        CommandEnvelope.of(*arguments)
    assert caught.value.field == field


def test_an_empty_id_of_a_command_is_refused() -> None:
    with pytest.raises(InvalidRecord, match=r"^id: "):
        CommandEnvelope.of("CreateUser", "user123", {}, id="")


@pytest.mark.parametrize(
    "arguments", [("CreateUser", "u"), (CreateUser("a"), "u", {}), (7, "u"), (CreateUser, "u")]
)
def test_what_is_no_payload_is_refused(arguments: Any) -> None:
    with pytest.raises(TypeError, match="a command is a Struct's or dataclass' object"):
        CommandEnvelope.of(*arguments)


# Dispatcher and handlers


@pytest.mark.parametrize(
    ("kind", "data", "payload"),
    [
        (Deposit, {"amount": 3}, Deposit(amount=3)),
        (CreateUser, {"name": "John", "tags": ["x"]}, CreateUser("John", ["x"])),
        (ChangeEmail, {"email": "a@b"}, ChangeEmail("a@b")),
    ],
)
async def test_a_handler_gets_the_payload_in_its_class(kind: Any, data: Any, payload: Any) -> None:
    dispatcher = Dispatcher()
    dispatcher.register(kind, take)
    named = await dispatcher.dispatch(CommandEnvelope.of(kind.__name__, "a1", data))
    typed = await dispatcher.dispatch(CommandEnvelope.of(payload, "a1"))
    assert named.payload == typed.payload == payload


async def test_a_handler_by_name_gets_the_payload_as_it_was_given() -> None:
    dispatcher = Dispatcher()
    dispatcher.register("CreateUser", take)
    given = CommandEnvelope.of("CreateUser", "user123", {"anything": 1})
    assert await dispatcher.dispatch(given) is given


@pytest.mark.parametrize(
    ("kind", "data", "field", "reason"),
    [
        (Deposit, {"amount": 0}, "data.amount", ">= 1"),
        (Deposit, {"amount": 1, "x": 2}, "data.x", "is not a known field"),
        (CreateUser, {}, "data.name", "is missing"),
        (CreateUser, {"name": 7}, "data.name", "Expected `str`, got `int`"),
        (CreateUser, {"name": "a", "nmae": "b"}, "data.nmae", "is not a known field"),
        (ChangeEmail, {"email": None}, "data.email", "Expected `str`, got `null`"),
        (ChangeEmail, {"email": "a@b", "notfy": 1}, "data.notfy", "is not a known field"),
    ],
)
async def test_a_payload_that_does_not_fit_names_the_field_and_the_reason(
    kind: Any, data: Any, field: str, reason: str
) -> None:
    dispatcher = Dispatcher()
    dispatcher.register(kind, take)
    with pytest.raises(InvalidRecord) as caught:
        await dispatcher.dispatch(CommandEnvelope.of(kind.__name__, "a1", data))
    assert caught.value.field == field
    assert reason in caught.value.reason


async def test_an_object_of_the_class_is_validated_too() -> None:
    dispatcher = Dispatcher()
    dispatcher.register(Deposit, take)
    with pytest.raises(InvalidRecord, match=r"data\.amount"):
        await dispatcher.dispatch(CommandEnvelope.of(Deposit(amount=0), "a1"))


async def test_a_handler_is_a_function_or_an_object_and_may_be_asynchronous() -> None:
    class Handlers:
        async def handle_command(self, command: CommandEnvelope[Any]) -> str:
            return f"object {command.aggregate_id}"

    async def asynchronous(command: CommandEnvelope[Any]) -> str:
        return f"async {command.aggregate_id}"

    dispatcher = Dispatcher()
    dispatcher.register("A", lambda command: f"plain {command.aggregate_id}")
    dispatcher.register("B", asynchronous)
    dispatcher.register("C", Handlers())
    answers = [await dispatcher.dispatch(CommandEnvelope.of(name, "a1", {})) for name in "ABC"]
    assert answers == ["plain a1", "async a1", "object a1"]


async def test_what_a_handler_raises_reaches_the_caller() -> None:
    def fail(command: CommandEnvelope[Any]) -> None:
        raise LookupError("no stock")

    dispatcher = Dispatcher()
    dispatcher.register("Buy", fail)
    with pytest.raises(LookupError, match="no stock"):
        await dispatcher.dispatch(CommandEnvelope.of("Buy", "a1", {}))


async def test_a_command_without_a_handler_is_an_error_that_names_it() -> None:
    dispatcher = Dispatcher()
    dispatcher.register(CreateUser, take)
    expected = "command 'DropUser' is not registered; registered: CreateUser"
    with pytest.raises(NotRegistered, match=expected) as caught:
        await dispatcher.dispatch(CommandEnvelope.of("DropUser", "user123", {}))
    assert (caught.value.kind, caught.value.name) == ("command", "DropUser")


@pytest.mark.parametrize("second", [CreateUser, "CreateUser"])
def test_a_second_handler_of_a_command_is_an_error_that_names_it(second: Any) -> None:
    dispatcher = Dispatcher()
    dispatcher.register(CreateUser, take)
    with pytest.raises(AlreadyRegistered, match="command 'CreateUser' is registered") as caught:
        dispatcher.register(second, take)
    assert (caught.value.kind, caught.value.name) == ("command", "CreateUser")


@pytest.mark.parametrize("handler", [7, "create", CreateUser])
def test_what_is_no_handler_is_refused(handler: Any) -> None:
    with pytest.raises(TypeError, match="neither a function nor an object with `handle_command`"):
        Dispatcher().register("CreateUser", handler)


def test_a_class_that_is_no_payload_is_refused() -> None:
    with pytest.raises(TypeError, match="neither a Struct nor a dataclass"):
        Dispatcher().register(dict, take)


# Middleware


async def test_middleware_wraps_the_handler_the_first_one_outermost() -> None:
    story: list[str] = []

    def noting(name: str) -> Any:
        async def note(command: CommandEnvelope[Any], call_next: CallNext) -> Any:
            story.append(f"{name} before {type(command.payload).__name__}")
            result = await call_next(command)
            story.append(f"{name} after {result}")
            return result

        return note

    dispatcher = Dispatcher([noting("outer"), noting("inner")])
    dispatcher.register(CreateUser, lambda command: "done")
    assert (
        await dispatcher.dispatch(CommandEnvelope.of("CreateUser", "u1", {"name": "John"}))
        == "done"
    )
    before = ["outer before CreateUser", "inner before CreateUser"]
    assert story == [*before, "inner after done", "outer after done"]


async def test_middleware_may_refuse_a_command() -> None:
    async def validate(command: CommandEnvelope[Any], call_next: CallNext) -> Any:
        if not command.payload.name:
            raise InvalidRecord("data.name", "is empty")
        return await call_next(command)

    handled: list[CommandEnvelope[Any]] = []
    dispatcher = Dispatcher([validate])
    dispatcher.register(CreateUser, handled.append)
    with pytest.raises(InvalidRecord, match=r"data\.name: is empty"):
        await dispatcher.dispatch(CommandEnvelope.of("CreateUser", "u1", {"name": ""}))
    assert handled == []
    await dispatcher.dispatch(CommandEnvelope.of("CreateUser", "u1", {"name": "John"}))
    assert len(handled) == 1


class Conflicting:
    """A handler that meets so many conflicts, each at the next version, before it succeeds."""

    def __init__(self, conflicts: int, *, same_version: bool = False) -> None:
        self.calls, self._conflicts, self._same = 0, conflicts, same_version
        self.pauses: list[float] = []

    def handle_command(self, command: CommandEnvelope[Any]) -> str:
        self.calls += 1
        if self.calls <= self._conflicts:
            expected = 1 if self._same else self.calls
            raise EditConflict("users", "u1", expected, expected + 1)
        return "done"

    async def dispatch(self, attempts: int) -> Any:
        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)

        dispatcher = Dispatcher([RetryOnConflict(attempts, sleep=sleep)])
        dispatcher.register("Rename", self)
        return await dispatcher.dispatch(CommandEnvelope.of("Rename", "u1", {}))


async def test_a_conflict_is_retried_after_bounded_pauses() -> None:
    handler = Conflicting(3)
    assert await handler.dispatch(4) == "done"
    assert (handler.calls, len(handler.pauses)) == (4, 3)
    assert all(
        0 <= pause <= limit for pause, limit in zip(handler.pauses, (0.02, 0.04, 0.08), strict=True)
    )


async def test_the_pauses_between_retries_are_jittered() -> None:
    first, second = Conflicting(4), Conflicting(4)
    await first.dispatch(5)
    await second.dispatch(5)
    assert first.pauses != second.pauses


async def test_the_retries_of_a_conflict_have_an_end() -> None:
    handler = Conflicting(9)
    with pytest.raises(EditConflict) as caught:
        await handler.dispatch(3)
    assert (handler.calls, caught.value.expected, caught.value.present) == (3, 3, 4)


async def test_a_conflict_with_a_version_that_the_caller_named_is_not_retried_on_and_on() -> None:
    handler = Conflicting(9, same_version=True)
    with pytest.raises(EditConflict):
        await handler.dispatch(5)
    assert handler.calls == 2


async def test_other_errors_are_not_retried() -> None:
    calls: list[CommandEnvelope[Any]] = []

    def fail(command: CommandEnvelope[Any]) -> None:
        calls.append(command)
        raise LookupError

    dispatcher = Dispatcher([RetryOnConflict()])
    dispatcher.register("Buy", fail)
    with pytest.raises(LookupError):
        await dispatcher.dispatch(CommandEnvelope.of("Buy", "a1", {}))
    assert len(calls) == 1
