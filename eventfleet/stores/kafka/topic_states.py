"""The request for the state of topics, in the version that tells their ids and our rights too.

The driver has it up to version 5. Version 10 (Kafka 2.8) is the first with topic ids: a topic that
was deleted and made anew has another one, while its name and even its offsets may look the same.
"""

from collections.abc import Sequence
from typing import Any

from aiokafka import errors as kafka
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v4, MetadataRequest_v5
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from eventfleet.stores.contracts import TopicState
from eventfleet.stores.kafka.errors import raise_for_code

ID_VERSION = 10
NO_ID = (0, 0)
READ, WRITE, DESCRIBE = 3, 4, 8
"""Bits of the operations that a user may do on a topic."""


class MetadataResponse_v10(Response):  # type: ignore[misc]
    """The answer to version 10."""

    API_KEY = 3
    API_VERSION = ID_VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("id_high", Int64),
                ("id_low", Int64),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_operations", Int32),
        ("tags", TaggedFields),
    )


class MetadataRequest_v10(RequestStruct):  # type: ignore[misc]
    """Version 10, with topic ids and the operations that the user may do."""

    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = ID_VERSION
    RESPONSE_TYPE = MetadataResponse_v10
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("id_high", Int64),
                ("id_low", Int64),
                ("topic", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_operations", Boolean),
        ("include_topic_operations", Boolean),
        ("tags", TaggedFields),
    )


TopicStatesStruct = MetadataRequest_v4 | MetadataRequest_v5 | MetadataRequest_v10


class TopicStatesRequest(Request[TopicStatesStruct]):  # type: ignore[misc]
    """Requests the state of topics, and creates none."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: Any) -> Any:
        """Build the request in the version that the broker and we have in common."""
        if request_struct_class.API_VERSION < ID_VERSION:
            return request_struct_class(self._topics, False)
        topics: list[Any] = [(*NO_ID, topic, {}) for topic in self._topics]
        return request_struct_class(topics, False, False, True, {})


async def fetch_topic_states(client: Any, topics: Sequence[str]) -> dict[str, TopicState]:
    """Return the states of topics, as one broker knows them; the caller bounds the time."""
    response = await client.send(client.get_random_node(), TopicStatesRequest(topics))
    found = response.to_object()["topics"]
    return {each["topic"]: _state(each) for each in found}


def _state(topic: dict[str, Any]) -> TopicState:
    code = topic["error_code"]
    if code == kafka.TopicAuthorizationFailedError.errno:
        return TopicState("", None, lacks=frozenset({"Describe"}))
    if code == kafka.UnknownTopicOrPartitionError.errno:
        return TopicState("", 0)
    raise_for_code(code)
    id = topic.get("id_high", 0), topic.get("id_low", 0)
    may = topic.get("operations", -1)
    if not may & 1 << DESCRIBE:  # who sees a topic may describe it: this broker does not tell
        may = -1
    names = {"Read": READ, "Write": WRITE}
    lacks = frozenset(name for name, bit in names.items() if not may & 1 << bit)
    text = "" if id == NO_ID else "".join(f"{half & (1 << 64) - 1:016x}" for half in id)
    return TopicState(text, len(topic["partitions"]), lacks)
