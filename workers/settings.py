"""The settings of every process: defaults, overridden by environment variables."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "EVENTFLEET_"
PositiveInt = Annotated[int, Field(ge=1)]
PositiveSeconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """One field a setting; `EVENTFLEET_<FIELD>` in the environment sets it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    domains: str = Field(
        "domains.orders,domains.process_log",
        description="Dotted names of the modules that declare the domains, comma-separated",
    )
    group_prefix: str = Field("eventfleet", description="Start of every consumer group's name")

    kafka_brokers: str = Field("127.0.0.1:9092", description="host:port, comma-separated")
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Security protocol"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="SASL mechanism"
    )
    kafka_username: str = Field("", description="SASL user name")
    kafka_password: str = Field("", description="SASL password", json_schema_extra={"secret": True})
    kafka_ca_file: str = Field("", description="CA certificates (PEM) that sign the brokers'")
    kafka_cert_file: str = Field("", description="Client certificate (PEM)")
    kafka_key_file: str = Field("", description="Client key (PEM)")
    kafka_timeout: PositiveSeconds = Field(10.0, description="Seconds for one request")
    kafka_session_timeout: PositiveSeconds = Field(
        10.0, description="Seconds without a heartbeat after which a worker counts as gone"
    )
    partitions: PositiveInt = Field(4, description="Partitions of each topic of a domain")
    replication: PositiveInt = Field(1, description="Replicas of each topic; 3 in production")
    retention_hours: int = Field(-1, description="How long logs keep records; -1: for ever")

    mongo_url: str = Field(
        "mongodb://127.0.0.1:27017/?directConnection=true",
        description="MongoDB's URL; may carry credentials and TLS options",
        json_schema_extra={"secret": True},
    )
    mongo_database: str = Field("eventfleet", description="Database of events and snapshots")
    mongo_timeout: PositiveSeconds = Field(10.0, description="Seconds for one operation")

    chunk_records: PositiveInt = Field(2000, description="Most records taken at once")
    chunk_bytes: PositiveInt = Field(4_194_304, description="Most bytes taken at once")
    cached_aggregates: PositiveInt = Field(
        100_000, description="Heads, or live states, kept in memory by each partition's owner"
    )
    snapshots_kept: PositiveInt = Field(3, description="Snapshots kept of each aggregate")
    snapshot_bytes: PositiveInt = Field(
        1_000_000, description="Largest state that is kept as a snapshot"
    )

    host: str = Field("127.0.0.1", description="Address of a worker's own page")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        6066, description="Port of a worker's own page; 0: any free one"
    )
