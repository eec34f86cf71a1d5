"""The address and security of the brokers, and the clients that use them."""

import ssl
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.helpers import create_ssl_context

from eventfleet.stores.errors import Misconfigured

MAX_BATCH_BYTES = 950_000
# A new client has no metadata for its first request, and always waits this long for it.
RETRY_BACKOFF_MS = 20
MAX_FETCH_BYTES = 4_194_304


@dataclass(frozen=True)
class Connection:
    """Settings of the brokers' clients, and the clients made with them.

    `security` is Kafka's name of the protocol, `mechanism` that of SASL; the files are PEM.
    `timeout` in seconds bounds one call; a single request may take half of it, so that a lost
    request can be repeated. A transaction's requests are not: see TransactionSender. After
    `metadata_age` seconds a client asks again where topics and partitions are.
    """

    bootstrap: str
    security: str = "PLAINTEXT"
    mechanism: str = "PLAIN"
    username: str = ""
    password: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    timeout: float = 10.0
    metadata_age: float = 30.0

    def __repr__(self) -> str:
        return f"Connection({self.bootstrap!r}, {self.security})"

    def options(self) -> dict[str, Any]:
        """Return the options of every aiokafka client. Misconfigured: a PEM file can't be used."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "request_timeout_ms": max(1, int(self.timeout * 500)),
            "metadata_max_age_ms": max(1, int(self.metadata_age * 1000)),
            "security_protocol": self.security,
        }
        if self.security.startswith("SASL"):
            options["sasl_mechanism"] = self.mechanism
            options["sasl_plain_username"] = self.username
            options["sasl_plain_password"] = self.password
        if self.security.endswith("SSL"):
            options["ssl_context"] = self._tls()
        return options

    def client(self) -> Any:
        return AIOKafkaClient(**self.options())

    def admin(self) -> Any:
        return AIOKafkaAdminClient(**self.options())

    def producer(self, **options: Any) -> Any:
        """Make a producer whose records are acknowledged by all replicas in sync."""
        return AIOKafkaProducer(
            **self.options(), acks="all", max_batch_size=MAX_BATCH_BYTES, **options
        )

    def consumer(self, committed: bool = True, wait_seconds: float = 0.0) -> Any:
        """Make a consumer outside any group; records may wait some seconds for others."""
        waiting: dict[str, int] = {}
        if wait_seconds:
            waiting = {
                "fetch_min_bytes": MAX_FETCH_BYTES,
                "fetch_max_wait_ms": int(wait_seconds * 1000),
            }
        return AIOKafkaConsumer(
            **self.options(),
            **waiting,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed" if committed else "read_uncommitted",
            max_partition_fetch_bytes=MAX_FETCH_BYTES,
            retry_backoff_ms=RETRY_BACKOFF_MS,
        )

    def _tls(self) -> ssl.SSLContext:
        try:
            context: ssl.SSLContext = create_ssl_context(
                cafile=self.ca_file or None,
                certfile=self.cert_file or None,
                keyfile=self.key_file or None,
            )
        except (OSError, ValueError) as error:
            names = ", ".join(filter(None, [self.ca_file, self.cert_file, self.key_file]))
            raise Misconfigured(f"Kafka's TLS files ({names}) can't be used: {error}") from error
        return context
