"""The differences between a topic and its declaration, in the same words for every log."""

from collections.abc import Mapping

from eventfleet.topics.topic_specs import TopicSpec


def describe_differences(
    spec: TopicSpec, partitions: int, replication: int, config: Mapping[str, str]
) -> list[str]:
    """Return a sentence for each difference: topic, setting, declared value and actual value."""
    actual = dict(config) | {"partitions": str(partitions), "replication factor": str(replication)}
    declared = spec.config | {
        "partitions": str(spec.partitions),
        "replication factor": str(spec.replication),
    }
    return [
        f"topic {spec.name}: {setting} should be {value} and is {actual.get(setting, 'not set')}"
        for setting, value in declared.items()
        if actual.get(setting) != value
    ]


def describe_missing(spec: TopicSpec) -> str:
    """Return the sentence for a topic that does not exist."""
    return f"topic {spec.name} does not exist"
