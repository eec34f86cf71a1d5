"""The API server refuses each mistake planted in what the chart renders, by its reason."""

from collections.abc import Iterator
from copy import deepcopy

import pytest

from tests.cluster.autoscaler import autoscaler
from tests.cluster.cluster import Cluster, Object, Refused, manifest
from tests.cluster.doubled import doubled_fields
from tests.cluster.faults import MANIFEST_FAULTS, SECURITY_FAULTS, Fault
from tests.deploy.helm_chart import FORMS, objects, render

pytestmark = pytest.mark.cluster


def rendered(kind: str) -> Object:
    """A rendered object of the kind; autoscalers are KEDA's."""
    if kind == "HorizontalPodAutoscaler":
        return autoscaler(rendered("ScaledObject"))
    every = (found for options in FORMS.values() for found in objects(*options))
    return deepcopy(next(found for found in every if found["kind"] == kind))


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    with cluster.namespace("faults") as name:
        yield name


@pytest.mark.parametrize("kind", sorted({fault.kind for fault in MANIFEST_FAULTS}))
def test_the_object_is_accepted_before_the_fault(
    cluster: Cluster, namespace: str, kind: str
) -> None:
    assert len(cluster.try_out(manifest([rendered(kind)]), namespace)) == 1


@pytest.mark.parametrize("fault", MANIFEST_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_refused(cluster: Cluster, namespace: str, fault: Fault) -> None:
    faulty = rendered(fault.kind)
    fault.edit(faulty)

    with pytest.raises(Refused) as refused:
        cluster.try_out(manifest([faulty]), namespace)

    assert fault.reason in str(refused.value)


@pytest.mark.parametrize("fault", SECURITY_FAULTS, ids=lambda fault: fault.name)
def test_pod_security_warns_of_a_fault(cluster: Cluster, namespace: str, fault: Fault) -> None:
    faulty = rendered(fault.kind)
    fault.edit(faulty)

    with pytest.raises(Refused) as refused:
        cluster.try_out(manifest([faulty]), namespace)

    assert 'would violate PodSecurity "restricted:latest"' in str(refused.value)
    assert fault.reason in str(refused.value)


def test_one_name_given_twice_is_refused(cluster: Cluster, prefix: str) -> None:
    service = rendered("Service")

    with cluster.namespace(prefix) as namespace, pytest.raises(Refused) as refused:
        cluster.create(manifest([service, service]), namespace)

    assert "already exists" in str(refused.value)


def test_one_field_given_twice_is_found() -> None:
    text = manifest([rendered("Deployment")])
    twice = text.replace("\nspec:\n", "\nspec:\n  paused: false\n  paused: true\n", 1)

    [found] = doubled_fields(twice)

    assert found.startswith("paused, line ")


def test_another_namespace_is_refused(cluster: Cluster) -> None:
    with pytest.raises(Refused) as refused:
        cluster.try_out(render(*FORMS["trial"]), "absent")

    assert 'namespaces "absent" not found' in str(refused.value)
