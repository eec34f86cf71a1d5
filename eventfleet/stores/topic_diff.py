"""What differs between a topic as declared and as found, in the same words for every log."""

from collections.abc import Mapping

from eventfleet.topics.topic_specs import TopicSpec


def describe_differences(
    spec: TopicSpec, partitions: int, replication: int, config: Mapping[str, str]
) -> list[str]:
    """One sentence each, naming topic, setting, the wanted and the found value."""
    found = dict(config) | {"partitions": str(partitions), "replication factor": str(replication)}
    wanted = spec.config | {
        "partitions": str(spec.partitions),
        "replication factor": str(spec.replication),
    }
    return [
        f"topic {spec.name}: {setting} should be {value} and is {found.get(setting, 'not set')}"
        for setting, value in wanted.items()
        if found.get(setting) != value
    ]


def describe_missing(spec: TopicSpec) -> str:
    return f"topic {spec.name} does not exist"
