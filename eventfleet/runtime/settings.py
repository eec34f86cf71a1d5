"""The settings of every process: defaults, overridden by environment variables."""

import logging
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.names import MAX_TOPIC_PREFIX_CHARS, TOPIC_NAME, TOPIC_NAME_RULE
from eventfleet.topics.values import read_number

PREFIX = "EVENTFLEET_"
FILE = "_FILE"
MASK = "***"
RENAMED = {"HOST": "METRICS_HOST", "PORT": "METRICS_PORT"}
"""Settings by their former names, without the prefix; these are read for one release more."""

_BROKER = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:,\[\]]+):(\d{1,5})")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")
_CREDENTIALS = re.compile(r"//.*@", re.DOTALL)
_SERVICE_LINK_VALUE = re.compile(r"(?:tcp|udp|sctp)://", re.IGNORECASE)
_SERVICE_LINK_NAME = re.compile(
    r"EVENTFLEET(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)"
)
_SECRET_OPTION = re.compile(r"((?:password|authmechanismproperties)=)[^&]*", re.IGNORECASE)


logger = logging.getLogger(__name__)


class SettingsError(EventfleetError):
    """Wrong or absent environment variables: one line for each, by name."""


def _modules(value: str) -> str:
    if value and not split(value):
        raise ValueError("names no module")
    return value


def _brokers(value: str) -> str:
    wrong = [b for b in split(value) if not (m := _BROKER.fullmatch(b)) or int(m[1]) > 65535]
    if wrong or not split(value):
        raise ValueError(f"{wrong[0] if wrong else ''!r} is not host:port")
    return value


def _file(value: str) -> str:
    if value and not Path(value).is_file():
        raise ValueError("no such file")
    return value


def _instance_id(value: str) -> str:
    if value and not re.fullmatch(TOPIC_NAME, value):
        raise ValueError(f"is not made of {TOPIC_NAME_RULE}")
    return value


def _topic_prefix(value: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9._-]*", value):
        raise ValueError(
            "has other characters than Kafka's topics: letters, digits, dots, '_', '-'"
        )
    if value and value[-1] not in "._-":
        raise ValueError(
            "does not end with a dot, '_' or '-': it would run into the names behind it"
        )
    if len(value) > MAX_TOPIC_PREFIX_CHARS:
        raise ValueError(
            f"has {len(value)} characters; {MAX_TOPIC_PREFIX_CHARS} at most keep every topic of a "
            "domain within Kafka's 249"
        )
    return value


def _mongo_url(value: str) -> str:
    if not re.match(r"mongodb(\+srv)?://[^/?]", value):
        raise ValueError("is not mongodb://host:port/... or mongodb+srv://host/...")
    return value


def _redis_url(value: str) -> str:
    if not re.match(r"rediss?://[^/?]", value):
        raise ValueError("is not redis://host:port/database or rediss://host:port/database")
    return value


def _origins(value: str) -> str:
    for each in split(value):
        if not _ORIGIN.fullmatch(each) or re.fullmatch(r"(http:.*:80|https:.*:443)", each):
            raise ValueError(
                f"{each!r} is no origin as browsers send it: https://host or https://host:port, in "
                "lower case, without a path, and without the port that its scheme implies"
            )
    return value


def _service_url(value: str) -> str:
    if value and not re.match(r"https?://[^/?]", value):
        raise ValueError("is not http://host:port or https://host")
    return value


def _key_url(value: str) -> str:
    parts = urlsplit(value)
    if value and (
        "@" in parts.netloc
        or not (parts.hostname and parts.port != 0)
        or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname)))
    ):
        raise ValueError("is not https://host/path without a user (http:// for this machine alone)")
    return value


def is_loopback(host: str) -> bool:
    """Check whether only this machine can reach the address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _declares_number(kind: Any) -> bool:
    return kind in (int, float) or any(map(_declares_number, get_args(kind)))


def _retention(value: int) -> int:
    if value < 1 and value != -1:
        raise ValueError("is neither -1 nor at least 1")
    return value


LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PresentFile = Annotated[str, AfterValidator(_file)]
Text = Annotated[str, Field(min_length=1)]
SECRET: dict[str, Any] = {"secret": True}
DATA_FOLDER = "eventfleet-data"
SERVER_FIELDS = ("kafka_brokers", "mongo_url", "redis_url")
"""The settings that name a server."""


class Settings(BaseSettings):
    """The settings of every process; `EVENTFLEET_<FIELD>` in the environment sets a field."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    domains: Annotated[str, AfterValidator(_modules)] = Field(
        default="",
        description="Dotted names of the modules that declare your domains, comma-separated; "
        "`eventfleet up` and `eventfleet run` use the sample domains without it, other commands "
        "need it",
    )
    rules: PresentFile = Field(
        default="",
        description="File of rules for process_log, as `eventfleet learn-rules` writes it",
    )
    log_level: LogLevel = Field(
        default="info",
        description="Least level of the log of worker, serve, up and run: debug, info, warning or "
        "error; `eventfleet --verbose` means debug",
    )
    log_format: LogFormat = Field(
        default="text",
        description="Form of that log: text, or json, one object a line",
    )
    topic_prefix: Annotated[str, AfterValidator(_topic_prefix)] = Field(
        default="",
        description="Start of every topic's name, those of routes included, and of every key and "
        "channel in Redis, such as `staging.`; ends with a dot, `_` or `-`",
    )
    group_prefix: Text = Field(
        default="eventfleet",
        description="Start of the names of consumer groups and transactional ids; by default "
        "topic_prefix and `eventfleet`",
    )

    data: str = Field(
        default="",
        description="Folder of the data of a fleet in one process, in place of Kafka, MongoDB and "
        "Redis; `eventfleet up` and `eventfleet run` use ./eventfleet-data where neither it nor a "
        "server is named",
    )

    kafka_brokers: Annotated[str, AfterValidator(_brokers)] = Field(
        default="127.0.0.1:9092", description="host:port, comma-separated"
    )
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="Security protocol"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="PLAIN", description="SASL mechanism"
    )
    kafka_username: str = Field(default="", description="SASL user name")
    kafka_password: str = Field(
        default="", description="SASL password", repr=False, json_schema_extra=SECRET
    )
    kafka_ca_file: PresentFile = Field(
        default="", description="CA certificates (PEM) that sign the brokers'"
    )
    kafka_cert_file: PresentFile = Field(default="", description="Client certificate (PEM)")
    kafka_key_file: PresentFile = Field(default="", description="Client key (PEM)")
    kafka_timeout: PositiveSeconds = Field(default=10.0, description="Seconds for one request")
    kafka_metadata_age: PositiveSeconds = Field(
        default=30.0,
        description="Seconds between two looks at the topics, which tell that one was deleted, was "
        "made anew, has more partitions, or may not be used any more",
    )
    kafka_session_timeout: PositiveSeconds = Field(
        default=6.0,
        description="Seconds without a heartbeat after which a worker counts as gone, and its "
        "partitions go to others; brokers take no less than 6 unless they are set up to",
    )
    kafka_instance_id: Annotated[str, AfterValidator(_instance_id)] = Field(
        default="",
        description="Name under which a worker keeps its partitions when it is restarted within "
        "the session timeout, such as the name of a StatefulSet's pod; no two workers of a role "
        "may have the same. Empty: a worker that stops gives its partitions up at once",
    )
    partitions: PositiveInt = Field(default=4, description="Partitions of each topic of a domain")
    replication: PositiveInt = Field(
        default=1, description="Replicas of each topic; use 3 in production"
    )
    retention_hours: Annotated[int, AfterValidator(_retention)] = Field(
        default=-1,
        description="How long logs keep records, counted for `<domain>.stored` from when the event "
        "came into `<domain>.events`; -1: for ever",
    )

    mongo_url: Annotated[str, AfterValidator(_mongo_url)] = Field(
        default="mongodb://127.0.0.1:27017/?directConnection=true",
        description="MongoDB's URL; may carry credentials and TLS options",
        repr=False,
        json_schema_extra=SECRET,
    )
    mongo_database: Text = Field(
        default="eventfleet", description="Database of events and snapshots"
    )
    mongo_timeout: PositiveSeconds = Field(default=10.0, description="Seconds for one operation")

    redis_url: Annotated[str, AfterValidator(_redis_url)] = Field(
        default="redis://127.0.0.1:6379/0",
        description="Redis' URL; may carry credentials and, as rediss://, TLS options",
        repr=False,
        json_schema_extra=SECRET,
    )
    redis_timeout: PositiveSeconds = Field(default=5.0, description="Seconds for one call")
    marker_expiry: Annotated[float, Field(ge=5, allow_inf_nan=False)] = Field(
        default=3600.0,
        description="Seconds that an unused marker is kept; commands wait while append lags by "
        "half of that, and are given up after a quarter of it",
    )
    marker_lease: PositiveSeconds = Field(
        default=5.0,
        description="Seconds after which another process finishes an unfinished event",
    )
    id_memory: PositiveSeconds = Field(
        default=3600.0,
        description="Seconds that Redis keeps the id of a command's event, to recognize a repeat "
        "before the event is stored (afterwards the event store does); at least marker_expiry",
    )

    start_timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=60.0,
        description="Seconds that all steps of a start may wait together for servers that "
        "are away; a server that goes away later is waited for without end",
    )
    chunk_records: PositiveInt = Field(default=2000, description="Most records in one chunk")
    chunk_bytes: PositiveInt = Field(default=4_194_304, description="Most bytes in one chunk")
    chunk_wait: Annotated[float, Field(ge=0, le=10)] = Field(
        default=0.0,
        description="Seconds that the broker lets new records wait for others, so that a steady "
        "trickle is handled in fewer chunks; 0: a chunk begins with the first record",
    )
    cached_aggregates: PositiveInt = Field(
        default=100_000,
        description="Heads, or live states, kept in memory by each partition's owner",
    )
    parked_aggregates: PositiveInt = Field(
        default=10_000,
        description="Most aggregates that a role parks in a partition; at one more it stands still",
    )
    snapshots_kept: PositiveInt = Field(
        default=3, description="Snapshots kept of each aggregate and shape of its state"
    )
    snapshot_bytes: PositiveInt = Field(
        default=1_000_000, description="Largest state, in bytes, that is saved as a snapshot"
    )

    metrics_host: Text = Field(
        default="127.0.0.1", description="Address of a worker's metrics and health pages"
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=6066, description="Port of a worker's metrics and health pages; 0: any free port"
    )

    http_host: Text = Field(default="127.0.0.1", description="Address of the HTTP service")
    http_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8080, description="Port of the HTTP service; 0: any free port"
    )
    http_metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None,
        description="Port at metrics_host of the HTTP service's own metrics and health pages, for "
        "Prometheus and probes without a token; 0: any free port; without it there is none",
    )
    http_access_log: bool = Field(
        default=False,
        description="Log each request at the level info, but for probes and metrics, by route, "
        "status, time, subject and correlation id",
    )
    http_operations: Annotated[str, AfterValidator(_modules)] = Field(
        default="",
        description="Dotted names of the modules that declare operations of your own for the HTTP "
        "service, comma-separated",
    )
    http_origins: Annotated[str, AfterValidator(_origins)] = Field(
        default="",
        description="Origins whose pages may use the HTTP service from browsers (CORS), such as "
        "https://shop.example, comma-separated; without it pages of its own origin only",
    )
    http_requests: PositiveInt = Field(default=256, description="Requests served at once")
    http_timeout: PositiveSeconds = Field(default=10.0, description="Seconds for one request")
    service_url: Annotated[str, AfterValidator(_service_url)] = Field(
        default="",
        description="URL of a running HTTP service; send, events, snapshot, state and diff then "
        "use it, and need neither servers nor domains here",
    )
    service_token: str = Field(
        default="", description="Bearer token for service_url", repr=False, json_schema_extra=SECRET
    )
    token_key_file: PresentFile = Field(
        default="",
        description="File of the key that verifies the HTTP service's tokens: PEM public key, JWK, "
        "JWK set, or a secret of 32 bytes or more; without it there are no tokens, and the service "
        "listens on loopback addresses only",
    )
    token_key_url: Annotated[str, AfterValidator(_key_url)] = Field(
        default="",
        description="URL of the JWK set that verifies tokens, in place of token_key_file; its keys "
        "are fetched again while the service runs",
    )
    token_issuer: str = Field(default="", description="Issuer that tokens must name, if set")
    token_audience: str = Field(
        default="",
        description="Audience that tokens must name; needed unless the key is a shared secret",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Reads the environment only, former names included and service links left out."""
        assert isinstance(env_settings, EnvSettingsSource)
        given = _present_names(env_settings.env_vars) | _files(env_settings.env_vars).values
        env_settings.env_vars = {name.lower(): value for name, value in given.items()}
        return init_settings, env_settings

    @field_validator("*", mode="before")
    @classmethod
    def _check_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what no door takes for a number, such as `1_000`."""
        declared = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, str) and _declares_number(declared):
            read_number(value)
        return value

    @model_validator(mode="after")
    def _prefix_groups(self) -> Self:
        """Keep the groups of fleets with different topics apart, unless they have a prefix set."""
        if "group_prefix" not in self.model_fields_set:
            object.__setattr__(self, "group_prefix", f"{self.topic_prefix}{self.group_prefix}")
        return self

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        problems = [
            f"{variable('data')}: {variable(field)} is set, too; unset one"
            for field in SERVER_FIELDS
            if self.data and field in self.model_fields_set
        ]
        if self.kafka_security.startswith("SASL"):
            problems += self._missing("kafka_username", "kafka_password", because="kafka_security")
        if self.kafka_cert_file:
            problems += self._missing("kafka_key_file", because="kafka_cert_file")
        if self.kafka_key_file:
            problems += self._missing("kafka_cert_file", because="kafka_key_file")
        for field in ("token_issuer", "token_audience"):
            if field in self.model_fields_set and not getattr(self, field):
                problems.append(f"{variable(field)}: is empty; unset it to take any")
        if self.token_key_url:
            problems += self._missing("token_audience", because="token_key_url")
            if self.token_key_file:
                other = variable("token_key_url")
                problems.append(f"{variable('token_key_file')}: {other} is set, too; unset one")
        if self.id_memory < self.marker_expiry:
            expiry = f"{variable('marker_expiry')}={self.marker_expiry:g}"
            problems.append(f"{variable('id_memory')}={self.id_memory:g}: is less than {expiry}")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _missing(self, *fields: str, because: str) -> list[str]:
        reason = f"{variable(because)}={getattr(self, because)}"
        empty = [field for field in fields if not getattr(self, field)]
        return [f"{variable(field)}: is needed with {reason}" for field in empty]


class SettingDescription(NamedTuple):
    """A setting as it may be shown: secrets are masked."""

    variable: str
    value: Any
    source: Literal["default", "environment"]
    description: str


class LogSettings(NamedTuple):
    """The settings of the log."""

    level: LogLevel
    format: LogFormat


def log_settings() -> LogSettings:
    """Read the settings of the log alone, so that all others can be loaded with a log.

    A wrong one is its default here; `load_settings` names it.
    """
    given = {name.upper(): value for name, value in os.environ.items()}

    def read(field: str) -> Any:
        known, value = Settings.model_fields[field], given.get(variable(field))
        return value if value in get_args(known.annotation) else known.default

    return LogSettings(read("log_level"), read("log_format"))


def load_settings() -> Settings:
    """Load the settings from the environment; warn of former names and of service links.

    SettingsError names every wrong variable.
    """
    for warning in _warnings(os.environ):
        logger.warning(warning)
    problems = _unknown(os.environ) + _files(os.environ).problems
    try:
        settings = Settings()
    except ValidationError as error:
        problems += [line for detail in error.errors() for line in _explain(dict(detail))]
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def with_values(settings: Settings, **values: Any) -> Settings:
    """The settings with other values for some. SettingsError: they do not fit the others."""
    given = settings.model_dump(include=settings.model_fields_set)
    try:
        return Settings(**(given | values))
    except ValidationError as error:
        lines = [line for detail in error.errors() for line in _explain(dict(detail))]
        raise SettingsError("\n".join(lines)) from error


def with_data(settings: Settings) -> Settings:
    """The settings with a folder for the data, as an absolute path, where they name no server."""
    if not settings.data and settings.model_fields_set.intersection(SERVER_FIELDS):
        return settings
    return with_values(settings, data=str(Path(settings.data or DATA_FOLDER).absolute()))


def describe(settings: Settings) -> list[SettingDescription]:
    """Describe every setting, in the order of declaration."""
    return [
        SettingDescription(
            variable(name),
            masked_value(settings, name),
            "environment" if name in settings.model_fields_set else "default",
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


def split(value: str) -> list[str]:
    """Split a comma-separated setting."""
    return [part.strip() for part in value.split(",") if part.strip()]


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()


def file_fields() -> list[str]:
    """The settings that may come from a file, which the variable and `_FILE` name."""
    return [f for f in Settings.model_fields if _is_secret(f) or f == "kafka_username"]


def masked_value(settings: Settings, field: str) -> Any:
    """The value of a setting, fit to be shown: a secret is masked, in a URL its credentials."""
    value = getattr(settings, field)
    if not _is_secret(field) or not value:
        return value
    if not field.endswith("_url"):
        return MASK
    return _SECRET_OPTION.sub(rf"\1{MASK}", _CREDENTIALS.sub(f"//{MASK}@", value))


def _is_secret(field: str) -> bool:
    return Settings.model_fields[field].json_schema_extra == SECRET


def _unknown(environ: Mapping[str, str]) -> list[str]:
    known = [variable(field) for field in Settings.model_fields]
    known += [variable(field) + FILE for field in file_fields()]
    names = [name for name in _present_names(environ) if name.upper().startswith(PREFIX)]
    strangers = [name for name in names if name.upper() not in known]
    return [f"{name}: there is no such setting{_nearest(name, known)}" for name in strangers]


class _Files(NamedTuple):
    """The values that files have, by variable, and what is wrong with the files."""

    values: dict[str, str | None]
    problems: list[str]


def _files(environ: Mapping[str, str | None]) -> _Files:
    """Read the files that variables name; the newline at the end is no part of the value."""
    files, given = _Files({}, []), {name.upper(): value for name, value in environ.items()}
    for name in map(variable, file_fields()):
        if path := given.get(name + FILE):
            try:
                files.values[name] = Path(path).read_text("utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", "") or "is not UTF-8"
                files.problems.append(f"{name}{FILE}={path!r}: {reason}")
            if name in given:
                files.problems.append(f"{name}{FILE}: {name} is set, too; unset one")
    return files


def _present_names(environ: Mapping[str, str | None]) -> dict[str, str | None]:
    """The variables by their present names, without the service links of Kubernetes."""
    own = {name: value for name, value in environ.items() if not _is_service_link(name, value)}
    upper = {name.upper() for name in own}
    present = {}
    for name, value in own.items():
        new = _new_name(name)
        if new is None:
            present[name] = value
        elif new not in upper:
            present[new] = value
    return present


def _new_name(name: str) -> str | None:
    renamed = RENAMED.get(name.upper().removeprefix(PREFIX))
    return PREFIX + renamed if renamed and name.upper().startswith(PREFIX) else None


def _is_service_link(name: str, value: str | None) -> bool:
    """Kubernetes gives a pod such variables for each Service; one named eventfleet makes ours."""
    name = name.upper()
    is_port = name.startswith(PREFIX) and name.endswith("PORT")
    return bool(
        (is_port and _SERVICE_LINK_VALUE.match(value or "")) or _SERVICE_LINK_NAME.fullmatch(name)
    )


def _warnings(environ: Mapping[str, str]) -> list[str]:
    links = sorted(name for name, value in environ.items() if _is_service_link(name, value))
    ignored = (
        f"ignored {', '.join(links)}: service links of Kubernetes, no settings; "
        "`enableServiceLinks: false` in the pod's spec leaves them out"
    )
    return [ignored] * bool(links) + [
        f"{name} is now named {new}; the former name is read in this release only"
        for name in environ
        if (new := _new_name(name)) and name not in links
    ]


def _nearest(name: str, known: list[str]) -> str:
    endings = [variable.removeprefix(PREFIX) for variable in known]
    near = get_close_matches(name.upper().removeprefix(PREFIX), endings, n=1, cutoff=0.7)
    return f"; did you mean {PREFIX}{near[0]}?" if near else ""


def _explain(detail: dict[str, Any]) -> list[str]:
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not detail["loc"]:
        return list(message.splitlines())
    field = str(detail["loc"][0])
    value = "" if _is_secret(field) else f"={detail['input']!r}"
    return [f"{variable(field)}{value}: {message}"]
