"""The definitions of all metrics of all processes; docs/metrics.md is made from them."""

from math import inf
from typing import Literal, NamedTuple

from eventfleet.stores.server_calls import OPERATIONS

Kind = Literal["counter", "gauge", "histogram", "summary"]

ROLE_LABELS = ("domain", "role")
PARTITION_LABELS = ("domain", "role", "partition")
DOMAIN_LABELS = ("domain",)
SERVER_LABELS = ("server", "operation")
CACHE_LABELS = ("domain", "role", "cache")
BUILD_LABELS = ("domain", "view", "build", "partition")

CHUNK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, inf)
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, inf)
AGE_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, inf)
CHUNK_RECORDS = (1, 10, 50, 100, 250, 500, 1_000, 2_000, 5_000, 10_000, inf)


class MetricDefinition(NamedTuple):
    """A metric as Prometheus shows it. `bounds` are the upper bounds of a histogram's buckets."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()

    @property
    def family(self) -> str:
        """The name without a counter's suffix, as the client library takes it."""
        return self.name.removesuffix("_total")


COUNTED = {
    "stored": "Events stored",
    "repeated": "Repeats of events dropped, and of commands answered",
    "dead_letters": "Records put among the dead letters",
    "superseded": "Superseded events put among the dead letters",
    "emitted": "Records emitted",
    "snapshots": "Snapshots saved",
    "too_large": "Snapshots not saved because the state is too large",
    "accepted": "Commands accepted",
    "conflicts": "Commands refused because others changed the aggregate: at each attempt, or since "
    "the version that the command expects",
    "failed": "Commands on which the domain's own code raised",
    "parked": "Events parked",
    "redriven": "Parked events (of snapshot: aggregates) handled by a redrive",
    "discarded": "Parked events discarded",
    "nudged": "Aggregates whose events were put and not placed, produced again",
}
"""The counters of a worker that are fields of a ChunkReport."""


def _counter(name: str, labels: tuple[str, ...], text: str) -> MetricDefinition:
    return MetricDefinition(f"eventfleet_{name}_total", "counter", labels, text)


def _gauge(name: str, labels: tuple[str, ...], text: str) -> MetricDefinition:
    return MetricDefinition(f"eventfleet_{name}", "gauge", labels, text)


def _histogram(
    name: str, labels: tuple[str, ...], text: str, bounds: tuple[float, ...]
) -> MetricDefinition:
    return MetricDefinition(f"eventfleet_{name}", "histogram", labels, text, bounds)


# Of a worker

COUNTERS = {name: _counter(name, ROLE_LABELS, text) for name, text in COUNTED.items()}
REJECTED = _counter("rejected", (*ROLE_LABELS, "reason"), "Commands rejected")
SNAPSHOTS_BY_RULE = _counter(
    "snapshots_by_rule", ("domain", "rule"), "Snapshots saved, by the rule that made them due"
)
NOTICES = _counter("notices", (), "Stage notices published")
NOTICES_LOST = _counter("notices_lost", (), "Stage notices not published")
REBALANCES = _counter("rebalances", ROLE_LABELS, "Times partitions were assigned")
FENCED = _counter("fenced", ROLE_LABELS, "Partitions taken over by another owner")
RETRIES = _counter("retries", ROLE_LABELS, "Partitions opened again after a fault")
ASSIGNED = _gauge("assigned_partitions", ROLE_LABELS, "Partitions assigned")
LAG = _gauge("lag", PARTITION_LABELS, "Offsets of the source that wait")
LAG_SECONDS = _gauge(
    "lag_seconds", PARTITION_LABELS, "Age of the oldest record that waits, 0 when none waits"
)
COMMIT_AGE = _gauge(
    "last_commit_age_seconds", PARTITION_LABELS, "Since a chunk was done or there was none"
)
PARKED = _gauge("parked_aggregates", PARTITION_LABELS, "Aggregates that wait for a redrive")
STOPPED = _gauge("stopped", PARTITION_LABELS, "1 where a fault has stopped the role at a partition")
CHUNK = _histogram("chunk_seconds", ROLE_LABELS, "Seconds for one chunk", CHUNK_SECONDS)
RECORDS = _histogram("chunk_records", ROLE_LABELS, "Records in one chunk", CHUNK_RECORDS)
COMMIT = _histogram(
    "commit_seconds",
    ROLE_LABELS,
    "Seconds for one commit of a chunk's records and offset",
    CHUNK_SECONDS,
)
EVENT_AGE = _histogram(
    "event_age_seconds",
    ROLE_LABELS,
    "Seconds from a record's production to <domain>.events or <domain>.commands until the role had"
    " committed it",
    AGE_SECONDS,
)
VIEW_ROWS = _counter(
    "view_rows", ("domain", "view"), "Rows of views and parts of totals written, deleted ones too"
)
VIEW_READY = _gauge(
    "view_ready",
    BUILD_LABELS,
    "1 where a build of a view has all that was projected, 0 where it must catch up first or is "
    "held",
)
VIEW_BEHIND = _gauge(
    "view_behind",
    BUILD_LABELS,
    "Offsets of <domain>.events that a build which is not ready must catch up on, 0 when ready",
)
WORKER = (
    *COUNTERS.values(),
    REJECTED,
    SNAPSHOTS_BY_RULE,
    NOTICES,
    NOTICES_LOST,
    REBALANCES,
    FENCED,
    RETRIES,
    ASSIGNED,
    LAG,
    LAG_SECONDS,
    COMMIT_AGE,
    STOPPED,
    PARKED,
    CHUNK,
    RECORDS,
    COMMIT,
    EVENT_AGE,
    VIEW_ROWS,
    VIEW_READY,
    VIEW_BEHIND,
)

# Of deciders and queriers, in workers with the command role and in HTTP services

MARKER_ROUNDS = MetricDefinition(
    "eventfleet_marker_round_seconds", "summary", DOMAIN_LABELS, "Rounds of commands over markers"
)
MARKER_LOOKUPS = _counter("marker_lookups", DOMAIN_LABELS, "Ids looked up in the store for markers")
MARKER_RESULTS = _counter(
    "marker_results", ("domain", "status"), "Requests to mark an event, by their result"
)
NOTES_FINISHED = _counter(
    "stale_notes_finished", DOMAIN_LABELS, "Events of others brought to their end"
)
DECIDED_AGAIN = _counter(
    "decided_again", DOMAIN_LABELS, "Commands decided again because a version was taken"
)
UNPUBLISHED = _counter(
    "unpublished", DOMAIN_LABELS, "Commands accepted whose events wait for the sweep"
)
STATES_SAVED = _counter("states_saved", DOMAIN_LABELS, "States saved as snapshots behind answers")
STATES_DROPPED = _counter("states_dropped", DOMAIN_LABELS, "States not saved behind answers")
DECIDERS = (
    MARKER_ROUNDS,
    MARKER_LOOKUPS,
    MARKER_RESULTS,
    NOTES_FINISHED,
    DECIDED_AGAIN,
    UNPUBLISHED,
    STATES_SAVED,
    STATES_DROPPED,
)

# Of an HTTP service

HTTP_REQUESTS = _counter("http_requests", ("route", "method", "status"), "Requests answered")
HTTP_SECONDS = _histogram(
    "http_request_seconds",
    ("route", "method"),
    "Seconds from a request to the end of its response",
    REQUEST_SECONDS,
)
HTTP_IN_HAND = _gauge("http_requests_in_hand", (), "Requests in progress")
HTTP_LIMIT = _gauge(
    "http_requests_limit", (), "Requests that may be in progress at once (EVENTFLEET_HTTP_REQUESTS)"
)
HTTP_FEEDS = _gauge("http_feeds", (), "Live feeds that clients have open")
HTTP_FEEDS_CUT = _counter(
    "http_feeds_cut", ("reason",), "Live feeds that were ended: a slow client, or a problem's name"
)
COMMANDS = _counter("commands", ("domain", "outcome"), "Commands decided by an HTTP service")
HTTP = (
    *(HTTP_REQUESTS, HTTP_SECONDS, HTTP_IN_HAND, HTTP_LIMIT),
    *(HTTP_FEEDS, HTTP_FEEDS_CUT, COMMANDS),
)

# Of each process

BUILD = _gauge("build_info", ("version", "python"), "1; the labels have the process's versions")
BACKGROUND_FAILURES = _counter(
    "background_failures", ("task",), "Failures of background tasks that run"
)
BACKGROUND_FAILING = _gauge(
    "background_failing_seconds", ("task",), "Since a background task fails; 0 while it is well"
)
GAPS = _counter(
    "gaps", (), "Times that a group of a bus was gone from its server, with events perhaps lost"
)
TOPIC_FAULTS = _gauge(
    "topic_faults", ("domain", "topic"), "1 where a topic is not as its domain needs it"
)
SERVER_SECONDS = _histogram(
    "server_call_seconds",
    SERVER_LABELS,
    "Seconds for one call to a server, failed or not",
    CHUNK_SECONDS,
)
SERVER_ERRORS = _counter("server_errors", SERVER_LABELS, "Calls that failed or timed out")
CACHE_HITS = _counter("cache_hits", CACHE_LABELS, "Aggregates found in a cache")
CACHE_MISSES = _counter("cache_misses", CACHE_LABELS, "Aggregates not found in a cache")
PROCESS = (
    BUILD,
    BACKGROUND_FAILURES,
    BACKGROUND_FAILING,
    GAPS,
    TOPIC_FAULTS,
    SERVER_SECONDS,
    SERVER_ERRORS,
    CACHE_HITS,
    CACHE_MISSES,
    MetricDefinition("process_cpu_seconds_total", "counter", (), "CPU time, user and system"),
    MetricDefinition("process_resident_memory_bytes", "gauge", (), "Resident memory"),
    MetricDefinition("process_virtual_memory_bytes", "gauge", (), "Virtual memory"),
    MetricDefinition("process_start_time_seconds", "gauge", (), "Start, in seconds since 1970"),
    MetricDefinition("process_open_fds", "gauge", (), "Open file descriptors"),
    MetricDefinition("process_max_fds", "gauge", (), "File descriptors that may be open at once"),
)

LABEL_VALUES = {
    "domain": "the domains of the process",
    "role": "`append`, `command`, `snapshot`, `relay`, `project`; of caches also `query`, a"
    " service's queries",
    "partition": "the partitions assigned to the process; on gauges only, and dropped with them",
    "view": "the views of the domain; of rows also its totals",
    "build": "`live`, which queries read, and `next`, which will follow it",
    "reason": "the rejection's reason; after 100 different ones of a domain and role, `other`; of"
    " live feeds `slow`, or a problem's name",
    "rule": "the kind of rule: `every`, `after`, `on`, `size`, the class's name for a rule of your"
    " own; `&` and `~` join them as in the declaration, of `|` it is the side that holds",
    "status": "of markers: `ok`, `mine`, `done`, `rejected`, `busy`, `stale`, `missing`, `late`,"
    " `disowned`, `again`; of HTTP: the response's status",
    "outcome": "`accepted`, `rejected`, `repeated`, `conflict`, `failed`, `unavailable`",
    "route": "the operations' paths as templates, such as `/domains/{domain}/{id}/state`, or"
    " `none`",
    "method": "the methods of HTTP, or `other`",
    "task": "the background tasks of the process",
    "server": "`kafka`, `mongodb`, `redis`",
    "operation": "; ".join(
        f"{server}: {', '.join(f'`{name}`' for name in names)}"
        for server, names in OPERATIONS.items()
    ),
    "topic": "the topics of the process's domains, and of their routes, that are at fault, as Kafka"
    " names them: with the topic prefix",
    "cache": "`heads` (append), `states` (snapshot, command, query)",
    "version": "that of eventfleet",
    "python": "that of Python",
}
"""Where the values of each label come from: none may grow with the data."""

DEFINITIONS = {each.name: each for each in (*WORKER, *DECIDERS, *HTTP, *PROCESS)}
