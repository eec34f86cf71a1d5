"""The settings of every process: defaults, overridden by environment variables."""

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from eventfleet.topics.errors import EventfleetError

PREFIX = "EVENTFLEET_"
MASK = "***"

_BROKER = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:,\[\]]+):(\d{1,5})")
_CREDENTIALS = re.compile(r"//.*@", re.DOTALL)
_SECRET_OPTION = re.compile(r"((?:password|authmechanismproperties)=)[^&]*", re.IGNORECASE)


class SettingsError(EventfleetError):
    """Wrong environment variables: one line for each, by name."""


def _names(value: str) -> str:
    if not split(value):
        raise ValueError("needs at least one module")
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


def _mongo_url(value: str) -> str:
    if not re.match(r"mongodb(\+srv)?://[^/?]", value):
        raise ValueError("is not mongodb://host:port/... or mongodb+srv://host/...")
    return value


def _redis_url(value: str) -> str:
    if not re.match(r"rediss?://[^/?]", value):
        raise ValueError("is not redis://host:port/database or rediss://host:port/database")
    return value


def _service_url(value: str) -> str:
    if value and not re.match(r"https?://[^/?]", value):
        raise ValueError("is not http://host:port or https://host")
    return value


def _retention(value: int) -> int:
    if value < 1 and value != -1:
        raise ValueError("is neither -1 nor at least 1")
    return value


PositiveInt = Annotated[int, Field(ge=1)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PresentFile = Annotated[str, AfterValidator(_file)]
Text = Annotated[str, Field(min_length=1)]
SECRET: dict[str, Any] = {"secret": True}


class Settings(BaseSettings):
    """One field a setting; `EVENTFLEET_<FIELD>` in the environment sets it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    domains: Annotated[str, AfterValidator(_names)] = Field(
        default="eventfleet.domains.orders,eventfleet.domains.bank,eventfleet.domains.trading,eventfleet.domains.process_log",
        description="Dotted names of the modules that declare the domains, comma-separated",
    )
    rules: PresentFile = Field(
        default="",
        description="File of rules for process_log, as `eventfleet learn-rules` writes it",
    )
    group_prefix: Text = Field(
        default="eventfleet", description="Start of every consumer group's name"
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
    kafka_session_timeout: PositiveSeconds = Field(
        default=10.0, description="Seconds without a heartbeat after which a worker counts as gone"
    )
    partitions: PositiveInt = Field(default=4, description="Partitions of each topic of a domain")
    replication: PositiveInt = Field(
        default=1, description="Replicas of each topic; 3 in production"
    )
    retention_hours: Annotated[int, AfterValidator(_retention)] = Field(
        default=-1, description="How long logs keep records; -1: for ever"
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
        description="Seconds that an unused marker is kept; commands wait while append is behind "
        "by half of it, and are given up after a quarter",
    )
    marker_lease: PositiveSeconds = Field(
        default=5.0, description="Seconds after which others finish an event that is on its way"
    )
    id_memory: PositiveSeconds = Field(
        default=3600.0,
        description="Seconds that Redis remembers the id of a command's event, so that a repeat is "
        "known before the store has the event; later the store knows it. At least marker_expiry",
    )

    chunk_records: PositiveInt = Field(default=2000, description="Most records taken at once")
    chunk_bytes: PositiveInt = Field(default=4_194_304, description="Most bytes taken at once")
    cached_aggregates: PositiveInt = Field(
        default=100_000,
        description="Heads, or live states, kept in memory by each partition's owner",
    )
    snapshots_kept: PositiveInt = Field(default=3, description="Snapshots kept of each aggregate")
    snapshot_bytes: PositiveInt = Field(
        default=1_000_000, description="Largest state that is kept as a snapshot"
    )

    host: Text = Field(default="127.0.0.1", description="Address of a worker's own page")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=6066, description="Port of a worker's own page; 0: any free one"
    )

    http_host: Text = Field(default="127.0.0.1", description="Address of the HTTP service")
    http_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8080, description="Port of the HTTP service; 0: any free one"
    )
    http_requests: PositiveInt = Field(default=256, description="Requests served at once")
    http_timeout: PositiveSeconds = Field(default=10.0, description="Seconds for one request")
    service_url: Annotated[str, AfterValidator(_service_url)] = Field(
        default="",
        description="Of a running HTTP service: send, events, snapshot, state and diff ask it, and "
        "no server themselves",
    )
    service_token: str = Field(
        default="", description="Bearer token for it", repr=False, json_schema_extra=SECRET
    )
    token_key_file: PresentFile = Field(
        default="",
        description="What signs the HTTP service's tokens: PEM public key, JWK, JWK set, or a "
        "secret of 32 bytes or more; without it there are no tokens, and only loopback is served",
    )
    token_issuer: str = Field(default="", description="Issuer that tokens must have, if any")
    token_audience: str = Field(default="", description="Audience that tokens must have, if any")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        problems = []
        if self.kafka_security.startswith("SASL"):
            problems += self._missing("kafka_username", "kafka_password", because="kafka_security")
        if self.kafka_cert_file:
            problems += self._missing("kafka_key_file", because="kafka_cert_file")
        if self.kafka_key_file:
            problems += self._missing("kafka_cert_file", because="kafka_key_file")
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


class Described(NamedTuple):
    """One setting as people may see it: secrets masked."""

    variable: str
    value: Any
    source: Literal["default", "environment"]
    description: str


def load() -> Settings:
    """The settings that the environment asks for. SettingsError names every wrong variable."""
    problems = _unknown(os.environ)
    try:
        settings = Settings()
    except ValidationError as error:
        problems += [line for detail in error.errors() for line in _explain(dict(detail))]
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def describe(settings: Settings) -> list[Described]:
    """Every setting, in the order of declaration."""
    return [
        Described(
            variable(name),
            shown(settings, name),
            "environment" if name in settings.model_fields_set else "default",
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


def split(value: str) -> list[str]:
    """The parts of a comma-separated setting."""
    return [part.strip() for part in value.split(",") if part.strip()]


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()


def shown(settings: Settings, field: str) -> Any:
    """A value as people may see it: a secret masked, of a URL only the credentials."""
    value = getattr(settings, field)
    if not _is_secret(field) or not value:
        return value
    if not field.endswith("_url"):
        return MASK
    return _SECRET_OPTION.sub(rf"\1{MASK}", _CREDENTIALS.sub(f"//{MASK}@", value))


def _is_secret(field: str) -> bool:
    return Settings.model_fields[field].json_schema_extra == SECRET


def _unknown(environ: Iterable[str]) -> list[str]:
    known = [variable(field) for field in Settings.model_fields]
    strangers = [n for n in environ if n.upper().startswith(PREFIX) and n.upper() not in known]
    return [f"{name}: there is no such setting{_nearest(name, known)}" for name in strangers]


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
