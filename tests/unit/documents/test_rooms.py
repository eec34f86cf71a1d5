"""The parts that document 003 names, each in the room and file that are named for it."""

from importlib import import_module

import pytest

FILES = {
    "aggregates.aggregate": "Aggregate",
    "aggregates.factory": "AggregateFactory",
    "aggregates.repository": "Repository",
    "aggregates.command_envelope": "CommandEnvelope",
    "aggregates.handler": "CommandHandler",
    "aggregates.dispatcher": "Dispatcher",
    "buses.event": "DocumentEvent",
    "buses.bus": "EventBus",
    "buses.memory_bus": "MemoryBus",
    "buses.redis_bus": "RedisBus",
    "buses.handler": "EventHandler",
    "documents.mapper": "EventMapper",
    "documents.storage": "Documents",
    "documents.event_sourced": "EventSourcedStorage",
}


@pytest.mark.parametrize(("module", "name"), FILES.items(), ids=FILES)
def test_each_part_of_document_003_lies_in_the_file_that_it_names(module: str, name: str) -> None:
    found = getattr(import_module(f"eventfleet.{module}"), name)
    assert found.__module__ == f"eventfleet.{module}"
    assert getattr(import_module(f"eventfleet.{module.partition('.')[0]}"), name) is found
