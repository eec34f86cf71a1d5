"""TopicWatch: looks at the topics of the domains again and again, and tells what has changed."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from eventfleet.runtime.settings import Settings, variable
from eventfleet.stores.background_task import BackgroundTask
from eventfleet.stores.contracts import LogReader, TopicState
from eventfleet.stores.topic_faults import TopicFault, replace_topic_faults

CONFIRMATIONS = 2
CONFIRM_SECONDS = 2.0
"""Between two looks at what may have changed: a broker that has just started may not know yet."""

SECTION = "docs/operations.md (A changed topic)"

logger = logging.getLogger(__name__)


class TopicUse(NamedTuple):
    """The use that a role or a service makes of a topic: a domain's own, or that of a route.

    `right` is the one that it takes. Without a vital topic it must stand still.
    """

    domain: str
    topic: str
    right: str
    is_vital: bool = True
    is_route: bool = False


class TopicFinding(NamedTuple):
    """A sentence about a topic, and whether its users stop."""

    text: str
    stops: bool


class TopicWatch:
    """Compares topics with their first look: their ids, numbers of partitions, and our rights.

    What is found is a fault of the topic, for metrics and readiness. The users of a vital topic
    that was deleted, was made anew or is forbidden are stopped, for as long as the process runs.
    """

    def __init__(self, settings: Settings, reader: LogReader) -> None:
        self._age, self._partitions = settings.kafka_metadata_age, settings.partitions
        self._reader = reader
        self._users: list[tuple[Sequence[TopicUse], Callable[[str], None]]] = []
        self._first: dict[str, TopicState] = {}
        self._found: dict[TopicUse, TopicFinding] = {}
        self._task = BackgroundTask("topic watch", self._watch)

    def add(self, uses: Sequence[TopicUse], stop: Callable[[str], None]) -> None:
        """Watch topics for a user. `stop`, which takes the reason, may be called more than once."""
        self._users.append((uses, stop))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch for the length of the block."""
        try:
            async with self._task.running():
                yield
        finally:
            replace_topic_faults([])

    async def _watch(self) -> None:
        while True:
            found = await self._look()
            if found.keys() - self._found.keys():
                for _ in range(CONFIRMATIONS):
                    await asyncio.sleep(min(self._age, CONFIRM_SECONDS))
                    again = await self._look()
                    found = {use: again[use] for use in found if use in again}
            self._tell(found)
            self._task.report_well()
            await asyncio.sleep(self._age)

    async def _look(self) -> dict[TopicUse, TopicFinding]:
        uses = [use for uses, _ in self._users for use in uses]
        states = await self._reader.topic_states(sorted({use.topic for use in uses}))
        for topic, state in states.items():
            if state.partitions:
                self._first.setdefault(topic, state)
        findings = {use: self._judge(use, states[use.topic]) for use in uses}
        return {use: finding for use, finding in findings.items() if finding}

    def _judge(self, use: TopicUse, state: TopicState) -> TopicFinding | None:
        topic, first = use.topic, self._first.get(use.topic, state)
        for right in ("Describe", use.right):
            if right in state.lacks:
                return TopicFinding(
                    f"the user lacks the right {right} on topic {topic}: grant it, and restart "
                    "this process",
                    use.is_vital and right not in first.lacks,
                )
        if state.partitions == 0:
            cause = f"topic {topic} {'was deleted' if first.partitions else 'does not exist'}"
            return TopicFinding(f"{cause}: {_way_back(use)}", use.is_vital)
        if first.id and state.id not in ("", first.id):
            cause = f"topic {topic} was deleted and made anew, without its records and offsets"
            return TopicFinding(f"{cause}: {_way_back(use)}", use.is_vital and not use.is_route)
        if not use.is_route and state.partitions not in (None, self._partitions):
            return TopicFinding(
                f"topic {topic} has {state.partitions} partitions, but {variable('partitions')} is "
                f"{self._partitions}: roles stand still at those beyond it, as {SECTION} says",
                False,
            )
        return None

    def _tell(self, found: dict[TopicUse, TopicFinding]) -> None:
        faults = {TopicFault(use.domain, use.topic, each.text) for use, each in found.items()}
        told = {TopicFault(use.domain, use.topic, e.text) for use, e in self._found.items()}
        for fault in sorted(faults - told):
            fields = {"domain": fault.domain, "topic": fault.topic}
            logger.error("%s: %s", fault.domain, fault.text, extra=fields)
        for domain, topic in sorted({each[:2] for each in told} - {each[:2] for each in faults}):
            logger.error("%s: topic %s is well again", domain, topic)
        self._found = found
        replace_topic_faults(faults)
        for uses, stop in self._users:
            for reason in [found[use].text for use in uses if use in found and found[use].stops]:
                stop(reason)


def _way_back(use: TopicUse) -> str:
    if use.is_route:
        return f"create it as its readers need it, and restart relay of {use.domain}"
    return (
        f"stop the workers and services of {use.domain}, and go on as {SECTION} says for "
        f"{use.topic}"
    )
