"""The request of a group's committed offsets, in the version that waits for open transactions too.

The driver has it up to version 3. From version 7 on (Kafka 2.5) a broker refuses, on demand, to
answer while a transaction's offset is pending: before Kafka 4.0 that is so for a moment after the
transaction has ended.
"""

from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.commit import (
    OffsetFetchRequest_v1,
    OffsetFetchRequest_v2,
    OffsetFetchRequest_v3,
)
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

UNSTABLE_OFFSET_COMMIT = 88
STABLE_VERSION = 7


class UnstableOffset(KafkaError):  # type: ignore[misc]
    """A transaction is about to end, and the offset to change."""

    retriable = True


class OffsetFetchResponse_v7(Response):  # type: ignore[misc]
    """The answer to version 7."""

    API_KEY = 9
    API_VERSION = STABLE_VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class OffsetFetchRequest_v7(RequestStruct):  # type: ignore[misc]
    """Version 7, the first that has `require_stable`."""

    FLEXIBLE_VERSION = True
    API_KEY = 9
    API_VERSION = STABLE_VERSION
    RESPONSE_TYPE = OffsetFetchResponse_v7
    SCHEMA = Schema(
        ("consumer_group", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                ("partitions", CompactArray(Int32)),
                ("tags", TaggedFields),
            ),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


OffsetFetchStruct = (
    OffsetFetchRequest_v1 | OffsetFetchRequest_v2 | OffsetFetchRequest_v3 | OffsetFetchRequest_v7
)


class StableOffsetFetchRequest(Request[OffsetFetchStruct]):  # type: ignore[misc]
    """Requests the offsets of one topic's partitions, as stable where the broker offers it."""

    API_KEY = 9

    def __init__(self, group: str, topic: str, partitions: list[int]) -> None:
        self._group, self._topic, self._partitions = group, topic, partitions

    def build(self, request_struct_class: Any) -> Any:
        """Build the request in the version that the broker and we have in common."""
        if request_struct_class.API_VERSION < STABLE_VERSION:
            return request_struct_class(self._group, [(self._topic, self._partitions)])
        topics: list[Any] = [(self._topic, self._partitions, {})]
        return request_struct_class(self._group, topics, True, {})
