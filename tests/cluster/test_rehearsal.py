"""Rehearses a release's life on nodes that run no containers: install, upgrade, scale, eviction."""

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from functools import partial

import pytest

from tests.cluster.cluster import NODES, Cluster, Object, Refused, manifest
from tests.cluster.release import Release, eventually
from tests.deploy.helm_chart import FORMS

pytestmark = pytest.mark.cluster

WORKLOADS = "deployments,statefulsets"


@pytest.fixture(scope="module", params=("small", "fixed owners"))
def release(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Release]:
    """An installed release, in a namespace that refuses pods short of `restricted`."""
    with cluster.namespace(f"rehearsal-{request.param}".replace(" ", "-")) as namespace:
        made = Release(cluster, namespace, FORMS[request.param])
        made.helm("install")
        yield made


def test_every_disruption_budget_protects_pods(release: Release) -> None:
    budgets = release.get("poddisruptionbudgets")

    assert budgets
    eventually(lambda: not idle(release.get("poddisruptionbudgets")))


def test_a_budget_that_selects_nothing_is_found(release: Release) -> None:
    astray = deepcopy(release.get("poddisruptionbudgets")[0])
    astray["metadata"] = {"name": "astray"}
    astray["spec"]["selector"] = {"matchLabels": {"app": "astray"}}
    release.cluster.create(manifest([astray]), release.namespace)

    try:
        eventually(lambda: idle(release.get("poddisruptionbudgets")) == ["astray"])
    finally:
        release.run("delete", "poddisruptionbudget", "astray")


def idle(budgets: list[Object]) -> list[str]:
    """Names of the budgets that have looked at their pods and found none."""
    return [
        budget["metadata"]["name"]
        for budget in budgets
        if not budget.get("status", {}).get("expectedPods")
    ]


def test_every_service_leads_to_pods(release: Release) -> None:
    for service in release.get("services"):
        label = {"kubernetes.io/service-name": service["metadata"]["name"]}
        eventually(partial(is_served, release, label))


def is_served(release: Release, label: dict[str, str]) -> bool:
    """True where ready addresses stand behind a port."""
    slices = release.selected("endpointslices", label)
    return any(
        found.get("ports") and any(each["conditions"]["ready"] for each in found["endpoints"] or ())
        for found in slices
    )


def test_every_pod_of_a_workload_is_scraped(release: Release) -> None:
    scraped = {
        pod["metadata"]["name"]
        for monitor in release.get("podmonitors")
        for pod in release.pods(monitor)
        if ports(pod) >= {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]}
    }
    working = {
        pod["metadata"]["name"] for each in release.get(WORKLOADS) for pod in release.pods(each)
    }

    assert scraped == working


def ports(pod: Object) -> set[str]:
    """Names of a pod's ports."""
    containers = pod["spec"]["containers"]
    return {port.get("name", "") for each in containers for port in each.get("ports", ())}


def test_pods_are_spread_over_nodes_and_zones(release: Release) -> None:
    workload = release.get(WORKLOADS)[0]

    release.scale(workload, NODES)

    nodes = Counter(pod["spec"]["nodeName"] for pod in release.pods(workload))
    assert len(nodes) == NODES


def test_an_upgrade_replaces_pods_and_leaves_the_autoscalers_number(release: Release) -> None:
    workload = next(each for each in release.get("deployments") if is_scaled(release, each))
    release.scale(workload, 2)

    release.helm("upgrade", "--set", "image.tag=upgraded")

    eventually(lambda: tags(release) == {"upgraded"})
    assert len(release.pods(workload)) == 2


def tags(release: Release) -> set[str]:
    """Tags of the images of all pods at work."""
    return {
        container["image"].rpartition(":")[2]
        for each in release.get(WORKLOADS)
        for pod in release.pods(each)
        for container in pod["spec"]["containers"]
    }


def is_scaled(release: Release, workload: Object) -> bool:
    """True where KEDA scales it."""
    names = {each["spec"]["scaleTargetRef"]["name"] for each in release.get("scaledobjects")}
    return workload["metadata"]["name"] in names


def test_fixed_owners_keep_their_names(release: Release) -> None:
    owners = release.get("statefulsets")
    if not owners:
        pytest.skip("this form has no fixed owners")
    before = owners[0]["spec"]["replicas"]

    release.scale(owners[0], before + 2)
    release.scale(owners[0], before + 1)

    name = owners[0]["metadata"]["name"]
    names = [pod["metadata"]["name"] for pod in release.pods(owners[0])]
    assert sorted(names) == sorted(f"{name}-{number}" for number in range(before + 1))


def test_an_eviction_beyond_the_budget_is_refused(release: Release) -> None:
    budget = release.get("poddisruptionbudgets")[0]
    release.scale(protected(release, budget), NODES)
    eventually(lambda: allowed(release, budget) > 0)
    spare = allowed(release, budget)
    assert spare < NODES
    pods = release.pods(budget)

    with release.cluster.cordoned():
        for pod in pods[:spare]:
            release.evict(pod)
        with pytest.raises(Refused, match="violate the pod's disruption budget"):
            release.evict(pods[spare])

    eventually(lambda: allowed(release, budget) == spare)
    release.evict(pods[spare])


def protected(release: Release, budget: Object) -> Object:
    """The workload whose pods a budget protects."""
    labels = budget["spec"]["selector"]["matchLabels"].items()
    workloads = release.get(WORKLOADS)
    return next(
        each
        for each in workloads
        if labels <= each["spec"]["template"]["metadata"]["labels"].items()
    )


def allowed(release: Release, budget: Object) -> int:
    """How many pods the budget lets go at present."""
    found = release.get("poddisruptionbudgets")
    now = next(each for each in found if each["metadata"]["name"] == budget["metadata"]["name"])
    number: int = now["status"].get("disruptionsAllowed", 0)
    return number
