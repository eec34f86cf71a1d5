"""The rooms and files of document 003's project structure."""

from importlib import import_module

import pytest

FILES = {
    "aggregate.aggregate": "Aggregate",
    "aggregate.factory": "AggregateFactory",
    "aggregate.repository": "Repository",
    "command.command": "Command",
    "command.handler": "CommandHandler",
    "command.dispatcher": "Dispatcher",
    "event.event": "DocumentEvent",
    "event.bus": "EventBus",
    "event.memory_bus": "MemoryBus",
    "event.redis_bus": "RedisBus",
    "event.handler": "EventHandler",
    "event.mapper": "EventMapper",
    "storage.storage": "Documents",
    "storage.event_sourced": "EventSourcedStorage",
}


@pytest.mark.parametrize(("module", "name"), FILES.items(), ids=FILES)
def test_each_part_of_document_003_lies_in_the_file_that_it_names(module: str, name: str) -> None:
    found = getattr(import_module(f"eventfleet.documents.{module}"), name)
    assert found.__module__ == f"eventfleet.documents.{module}"
