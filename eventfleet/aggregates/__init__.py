"""The parts of CQRS: aggregates with their rules, repositories, and commands with their handlers.

async with Repository(User, stores["users"], bus=bus) as users:
    dispatcher = Dispatcher([RetryOnConflict()])
    dispatcher.register(CreateUser, create_user)
    await dispatcher.dispatch(CommandEnvelope.of(CreateUser(name="John Doe"), "user123"))
"""

from eventfleet.aggregates.aggregate import Aggregate
from eventfleet.aggregates.command_envelope import CommandEnvelope
from eventfleet.aggregates.dispatcher import CallNext, Dispatcher, Middleware
from eventfleet.aggregates.errors import AlreadyRegistered, NotRegistered
from eventfleet.aggregates.factory import AggregateFactory
from eventfleet.aggregates.handler import CommandFunction, CommandHandler
from eventfleet.aggregates.mapper import AggregateEventMapper
from eventfleet.aggregates.middleware import RetryOnConflict, SkipRepeated
from eventfleet.aggregates.repository import Repository
from eventfleet.buses.derived_event import DerivedEvent
from eventfleet.stores.errors import EditConflict, NotFound
from eventfleet.stores.memory.domain_stores import memory_stores
from eventfleet.stores.mongo import open_stores

__all__ = [
    "Aggregate",
    "AggregateEventMapper",
    "AggregateFactory",
    "AlreadyRegistered",
    "CallNext",
    "CommandEnvelope",
    "CommandFunction",
    "CommandHandler",
    "DerivedEvent",
    "Dispatcher",
    "EditConflict",
    "Middleware",
    "NotFound",
    "NotRegistered",
    "Repository",
    "RetryOnConflict",
    "SkipRepeated",
    "memory_stores",
    "open_stores",
]
