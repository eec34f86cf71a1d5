"""The users of document 003's quick start: an aggregate, its commands and their handlers."""

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from eventfleet import Domain, Event, State, every
from eventfleet.aggregates import Aggregate, CommandEnvelope, Dispatcher, Middleware, Repository


class UserCreated(Event):
    name: str
    email: str


class EmailChanged(Event):
    email: str


class Renamed(Event):
    name: str


class UserState(State):
    name: str = ""
    email: str = ""


def evolve(user: UserState, event: Event) -> UserState:
    match event:
        case UserCreated(name=name, email=email):
            return replace(user, name=name, email=email)
        case EmailChanged(email=email):
            return replace(user, email=email)
        case Renamed(name="unfoldable"):
            raise ValueError("no fold")
        case Renamed(name=name):
            return replace(user, name=name)
    raise TypeError(type(event).__name__)


users = Domain(
    "users",
    state=UserState,
    evolve=evolve,
    events=[UserCreated, EmailChanged, Renamed],
    snapshot=every(3),
)


class Refused(Exception):
    """A rule of users forbids it."""


class User(Aggregate[UserState]):
    domain = users

    def create(self, name: str, email: str) -> None:
        if self.version:
            raise Refused(f"{self.id} exists already")
        self.raise_event(UserCreated(name=name, email=email))

    def change_email(self, email: str) -> None:
        if "@" not in email:
            raise Refused(f"{email} is no address")
        if email != self.state.email:
            self.raise_event(EmailChanged(email=email))

    def rename(self, name: str) -> None:
        self.raise_event(Renamed(name=name))


class CreateUser(msgspec.Struct):
    name: str
    email: str = "none@example.com"


@dataclass
class ChangeEmail:
    email: str


class UserHandlers:
    """The handlers of users' commands, by methods."""

    def __init__(self, repository: Repository[User]) -> None:
        self.repository = repository

    async def create(self, command: CommandEnvelope[CreateUser]) -> int:
        user = await self.repository.load_or_new(command.aggregate_id)
        user.create(command.payload.name, command.payload.email)
        await self.repository.save(user, command=command)
        return user.version

    async def change_email(self, command: CommandEnvelope[ChangeEmail]) -> int:
        user = await self.repository.load(command.aggregate_id)
        user.change_email(command.payload.email)
        await self.repository.save(user, command.metadata.get("if_match"), command=command)
        return user.version


def user_dispatcher(repository: Repository[User], *middleware: Middleware) -> Dispatcher:
    """A dispatcher of users' commands."""
    dispatcher, handlers = Dispatcher(middleware), UserHandlers(repository)
    dispatcher.register(CreateUser, handlers.create)
    dispatcher.register(ChangeEmail, handlers.change_email)
    return dispatcher


def create_user(id: str = "user123", **options: Any) -> CommandEnvelope[Any]:
    """Document 003's command."""
    data = {"name": "John Doe", "email": "john@example.com"}
    return CommandEnvelope.of("CreateUser", id, data, **options)
