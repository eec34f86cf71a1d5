"""Users: the document, the commands that change it, and their handlers."""

from collections.abc import Callable

import msgspec

from eventfleet.aggregates import CommandEnvelope, Dispatcher
from eventfleet.documents import Documents


class User(msgspec.Struct):
    """A user; the storage counts `version`."""

    id: str
    name: str
    email: str
    version: int = 0


class CreateUser(msgspec.Struct):
    """A request to create a user."""

    name: str
    email: str


class ChangeEmail(msgspec.Struct):
    """A request to change a user's address."""

    email: str


class UserHandlers:
    """Handles the commands of users by changes of documents."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def create(self, command: CommandEnvelope[CreateUser]) -> User:
        given = command.payload
        new = User(command.aggregate_id, given.name, given.email)
        created: User = await self._documents["users"].find_one_and_upsert(new, "users")
        return created

    async def change_email(self, command: CommandEnvelope[ChangeEmail]) -> User:
        id = command.aggregate_id
        edit = with_email(id, command.payload.email)
        user, _ = await self._documents.update("users", id, edit)
        return user  # type: ignore[no-any-return]


def with_email(id: str, email: str) -> Callable[[User | None], User]:
    """Return an edit that sets the address; of an absent user it makes one without a name."""

    def edit(user: User | None) -> User:
        user = user or User(id, "", "")
        user.email = email
        return user

    return edit


def make_dispatcher(documents: Documents) -> Dispatcher:
    """Return a dispatcher with the handlers of users' commands."""
    handlers, dispatcher = UserHandlers(documents), Dispatcher()
    dispatcher.register(CreateUser, handlers.create)
    dispatcher.register(ChangeEmail, handlers.change_email)
    return dispatcher
