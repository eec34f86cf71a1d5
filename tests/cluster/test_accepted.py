"""A real API server accepts everything that the chart renders, strictly and without a warning."""

import pytest

from tests.cluster.autoscaler import autoscaler
from tests.cluster.cluster import Cluster, manifest
from tests.cluster.doubled import doubled_fields
from tests.deploy.helm_chart import FORMS, objects, render

pytestmark = pytest.mark.cluster


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The options of one form of the chart."""
    options: tuple[str, ...] = FORMS[request.param]
    return options


def test_every_object_is_accepted(cluster: Cluster, prefix: str, form: tuple[str, ...]) -> None:
    with cluster.namespace(prefix) as namespace:
        accepted = cluster.try_out(render(*form), namespace)

    assert len(accepted) == len(objects(*form)) > 0


def test_no_two_objects_have_one_name(cluster: Cluster, prefix: str, form: tuple[str, ...]) -> None:
    with cluster.namespace(prefix) as namespace:
        cluster.create(render(*form), namespace)


def test_no_field_is_given_twice(form: tuple[str, ...]) -> None:
    assert not doubled_fields(render(*form))


def test_kedas_autoscalers_are_accepted(
    cluster: Cluster, prefix: str, form: tuple[str, ...]
) -> None:
    scaled = [found for found in objects(*form) if found["kind"] == "ScaledObject"]
    made = [autoscaler(found) for found in scaled]
    if not made:
        pytest.skip("this form scales nothing")

    with cluster.namespace(prefix) as namespace:
        accepted = cluster.try_out(manifest(made), namespace)

    assert len(accepted) == len(made)
