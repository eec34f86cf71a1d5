"""One cluster for all the checks of rendered manifests."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.cluster.cluster import Cluster, running_cluster
from tests.servers.install import Absent


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster; where its servers are not installed the test fails in CI, and skips elsewhere."""
    with ExitStack() as servers:
        try:
            made = servers.enter_context(running_cluster())
        except Absent as reason:
            if os.environ.get("CI") == "true":
                pytest.fail(str(reason))
            pytest.skip(str(reason))
        yield made
