"""The settings with which a domain's topics lose nothing."""

from dataclasses import dataclass, field

from eventfleet.topics.names import Topics

EVENT_TOPIC_BYTES = 1_048_576
WIDE_TOPIC_BYTES = 2_097_152
HOUR_MS = "3600000"


@dataclass(frozen=True)
class TopicSpec:
    """The declaration of a topic; `config` uses Kafka's own setting names."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str] = field(default_factory=dict)


def declare_topics(
    topics: Topics, partitions: int, replication: int, retention_ms: int
) -> list[TopicSpec]:
    """Declare the seven topics of a domain, all with the same number of partitions.

    A `retention_ms` of -1 keeps records for ever. With three or more replicas, two must have a
    record before it is acknowledged; unclean leader election is always off.
    """
    safe = {
        "min.insync.replicas": "2" if replication >= 3 else "1",
        "unclean.leader.election.enable": "false",
    }
    wide = {"max.message.bytes": str(WIDE_TOPIC_BYTES)}
    log = safe | {"cleanup.policy": "delete", "retention.ms": str(retention_ms)}
    configs = {
        topics.commands: log,
        topics.replies: log,
        topics.events: log | {"max.message.bytes": str(EVENT_TOPIC_BYTES)},
        topics.stored: log | wide,
        topics.snapshots: safe | wide | {"cleanup.policy": "compact"},
        topics.dead_letters: log | wide,
        # Small segments: only closed ones are compacted, and each take-over reads all that is left.
        topics.parked: safe | {"cleanup.policy": "compact", "segment.ms": HOUR_MS},
    }
    return [TopicSpec(name, partitions, replication, config) for name, config in configs.items()]
