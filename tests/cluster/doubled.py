"""Fields that a YAML text gives twice: kubectl and Helm keep the last one without a word."""

from collections import Counter
from collections.abc import Iterator

import yaml


def doubled_fields(text: str) -> list[str]:
    """The doubled fields of all documents, each with the line of its mapping."""
    return [found for document in yaml.compose_all(text) for found in _doubled(document)]


def _doubled(node: yaml.Node | None) -> Iterator[str]:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _doubled(item)
    if isinstance(node, yaml.MappingNode):
        keys = Counter(key.value for key, _ in node.value)
        line = node.start_mark.line + 1
        yield from (f"{key}, line {line}" for key, count in keys.items() if count > 1)
        for _, value in node.value:
            yield from _doubled(value)
