"""Gives the users of a Kafka rights, and takes them away, by its protocol."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

RESOURCES = {"--topic": 2, "--group": 3, "--transactional-id": 5}
OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
LITERAL, PREFIXED = 3, 4
ALLOW = 3

Acl = tuple[str, str, str, str, int]
"""User, operation, kind of resource, its name, and how the name is meant."""


class KafkaAcls:
    """The rights on a Kafka at whose `address` one may do all."""

    def __init__(self, address: str) -> None:
        self._address = address

    def allow(self, *acls: Acl) -> None:
        """Give rights."""
        self._administer(*(CreateAclsRequest(*_fields(acl)) for acl in acls))

    def withdraw(self, *acls: Acl) -> None:
        """Take rights away."""
        self._administer(*(DeleteAclsRequest(*_fields(acl)) for acl in acls))

    @contextmanager
    def without(self, acl: Acl) -> Iterator[None]:
        """Take a right away for the length of the block."""
        self.withdraw(acl)
        try:
            yield
        finally:
            self.allow(acl)

    def _administer(self, *requests: Any) -> None:
        async def administer() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self._address)
            await admin.start()
            try:
                for request in requests:
                    done = (await admin._send_request(request)).to_object()
                    results = done.popitem()[1]
                    assert not any(each["error_code"] for each in results), results
            finally:
                await admin.close()

        asyncio.run(administer())


def _fields(acl: Acl) -> tuple[Any, ...]:
    user, operation, kind, name, pattern = acl
    return RESOURCES[kind], name, pattern, f"User:{user}", "*", OPERATIONS[operation], ALLOW
