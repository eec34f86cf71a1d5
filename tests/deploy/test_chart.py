"""The Helm chart's forms: valid, bound to the code's own names, and strict about values."""

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml

from eventfleet.runtime.settings import PREFIX, Settings
from eventfleet.topics.names import Topics, consumer_group
from eventfleet.workers.agents import ROLES
from eventfleet.workers.app import STOP_TIMEOUT_SECONDS
from eventfleet.workers.owner_outage import OwnerTimeouts
from tests.deploy.helm_chart import (
    CHART,
    FORMS,
    NotRendered,
    Object,
    conforms,
    objects,
    of_kind,
    render,
)

CUSTOM_KINDS = {"ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule"}
SMALL, LARGE, FIXED = FORMS["small"], FORMS["large"], FORMS["fixed owners"]
ENDPOINT_SECONDS = 5
DEFAULT_ROLES = {*ROLES} - {"project"}
"""The roles that every domain has work for."""


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The options of one form of the chart."""
    options: tuple[str, ...] = FORMS[request.param]
    return options


def workloads(options: tuple[str, ...]) -> list[Object]:
    kinds = ("Deployment", "StatefulSet", "Job")
    return [found for kind in kinds for found in of_kind(kind, *options)]


def pod(workload: Object) -> Object:
    found: Object = workload["spec"]["template"]["spec"]
    return found


def container(workload: Object) -> Object:
    [found] = pod(workload)["containers"]
    return dict(found)


def environment(workload: Object) -> dict[str, str | Object]:
    """A workload's variables, with their values or where those come from."""
    variables = container(workload)["env"]
    assert len({each["name"] for each in variables}) == len(variables)
    return {each["name"]: each.get("value") or each["valueFrom"] for each in variables}


def workers(options: tuple[str, ...]) -> list[Object]:
    return [each for each in workloads(options) if container(each)["args"][0] == "worker"]


def serve() -> Object:
    return next(each for each in workloads(SMALL) if is_serve(each))


def is_serve(workload: Object) -> bool:
    return bool(container(workload)["args"][0] == "serve")


# Every form


def test_every_object_fits_kubernetes_schemas(form: tuple[str, ...]) -> None:
    valid, output = conforms(render(*form))
    built_in = [each for each in objects(*form) if each["kind"] not in CUSTOM_KINDS]
    assert valid, output
    assert f"Valid: {len(built_in)}, Invalid: 0, Errors: 0" in output


def test_every_variable_is_a_setting(form: tuple[str, ...]) -> None:
    for workload in workloads(form):
        names = environment(workload).keys()
        assert len(names) > 5
        assert not list(strangers(names))


def strangers(names: Iterator[str] | set[str] | object) -> Iterator[str]:
    """The variables that no setting has."""
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    yield from (name for name in names if name not in known)  # type: ignore[attr-defined]


def test_a_variable_that_is_no_setting_is_found() -> None:
    assert [*strangers({"EVENTFLEET_PARTITION"})] == ["EVENTFLEET_PARTITION"]


def test_there_is_a_worker_for_each_role_of_each_domain(form: tuple[str, ...]) -> None:
    values = yaml.safe_load((CHART / form[1].rpartition("/")[2]).read_text())
    expected = {
        (domain["name"], role)
        for domain in values["domains"]
        for role in ROLES
        if domain.get("roles", {}).get(role, {}).get("enabled", role in DEFAULT_ROLES)
    }
    found = {(each[3], each[1]) for each in (container(w)["args"] for w in workers(form))}
    assert found == expected


def test_pods_are_restricted_and_need_no_kubernetes(form: tuple[str, ...]) -> None:
    for workload in workloads(form):
        spec, security = pod(workload), container(workload)["securityContext"]
        assert spec["enableServiceLinks"] is spec["automountServiceAccountToken"] is False
        assert security["readOnlyRootFilesystem"] is security["runAsNonRoot"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["allowPrivilegeEscalation"] is False
        resources = container(workload)["resources"]
        assert resources["requests"].keys() == {"cpu", "memory"}
        assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_a_stop_is_given_more_time_than_it_takes(form: tuple[str, ...]) -> None:
    longest_chunk = OwnerTimeouts().in_hand
    for workload in workers(form):
        grace = pod(workload)["terminationGracePeriodSeconds"]
        assert grace > STOP_TIMEOUT_SECONDS + 2 * longest_chunk
    request = Settings.model_fields["http_timeout"].default
    assert pod(serve())["terminationGracePeriodSeconds"] > 2 * request + ENDPOINT_SECONDS


def test_probes_outlast_the_wait_for_servers_at_a_start(form: tuple[str, ...]) -> None:
    for workload in workers(form):
        live = container(workload)["livenessProbe"]
        assert live["httpGet"] == {"path": "/live", "port": "metrics"}
        assert live["periodSeconds"] * live["failureThreshold"] >= Settings().start_timeout
        assert container(workload)["readinessProbe"]["httpGet"]["path"] == "/ready"
        assert environment(workload)["EVENTFLEET_METRICS_HOST"] == "0.0.0.0"


def test_each_workload_has_a_disruption_budget(form: tuple[str, ...]) -> None:
    budgets = [each["spec"]["selector"] for each in of_kind("PodDisruptionBudget", *form)]
    running = [each["spec"]["selector"] for each in workloads(form) if each["kind"] != "Job"]
    assert sorted(map(str, budgets)) == sorted(map(str, running))


def test_no_form_holds_a_secret(form: tuple[str, ...]) -> None:
    assert not of_kind("Secret", *form)
    for workload in workloads(form):
        for name, value in environment(workload).items():
            if re.search("PASSWORD|USERNAME", name):
                assert isinstance(value, dict)
                assert value["secretKeyRef"].keys() == {"name", "key"}


# Scaling


@pytest.mark.parametrize("options", [SMALL, LARGE], ids=["small", "large"])
def test_lag_scales_each_worker_up_to_its_partitions(options: tuple[str, ...]) -> None:
    scaled = {each["metadata"]["name"]: each["spec"] for each in of_kind("ScaledObject", *options)}
    for worker in workers(options):
        _, role, _, domain = container(worker)["args"]
        spec = scaled[worker["metadata"]["name"]]
        [trigger] = spec["triggers"]
        assert trigger["metadata"]["consumerGroup"] == consumer_group("eventfleet", domain, role)
        assert trigger["metadata"]["topic"] == source(role, domain)
        most = int(str(environment(worker)["EVENTFLEET_PARTITIONS"]))
        assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, most)
        assert "replicas" not in worker["spec"]
        assert spec["scaleTargetRef"] == {"name": worker["metadata"]["name"]}


def source(role: str, domain: str) -> str:
    topics = Topics.of(domain)
    kinds = {"append": topics.events, "command": topics.commands}
    return kinds.get(role, topics.stored)


def test_fixed_owners_are_static_members_and_not_scaled() -> None:
    owners = of_kind("StatefulSet", *FIXED)
    assert len(owners) == len(DEFAULT_ROLES)
    for owner in owners:
        name = {"fieldRef": {"fieldPath": "metadata.name"}}
        assert environment(owner)["EVENTFLEET_KAFKA_INSTANCE_ID"] == name
        assert owner["spec"]["replicas"] == 1
    scaled = [each["metadata"]["name"] for each in of_kind("ScaledObject", *FIXED)]
    assert scaled == ["fleet-eventfleet-serve"]


def test_http_scales_on_cpu_where_no_prometheus_is_named() -> None:
    [autoscaler] = of_kind(
        "HorizontalPodAutoscaler", *SMALL, "--set", "serve.autoscaling.prometheusUrl="
    )
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == serve()["metadata"]["name"]


def test_views_are_kept_by_a_value() -> None:
    options = ("--set", "roles.project.enabled=true")
    assert {*ROLES} == {container(each)["args"][1] for each in workers((*SMALL, *options))}


def test_the_values_schema_knows_the_roles_and_the_settings() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["definitions"]
    assert schema["roles"]["propertyNames"]["enum"] == [*ROLES]
    assert schema["settings"]["propertyNames"]["enum"] == sorted(Settings.model_fields)


def test_a_partition_that_stands_still_is_not_scaled_for() -> None:
    triggers = [each["spec"]["triggers"][0] for each in of_kind("ScaledObject", *SMALL)]
    excluded = [
        trigger["metadata"]["excludePersistentLag"]
        for trigger in triggers
        if trigger["type"] == "kafka"
    ]
    assert {*excluded} == {"true"}


def test_a_large_number_is_written_in_digits() -> None:
    large = (*SMALL, "--set", "settings.snapshot_bytes=100000000")
    assert environment(workers(large)[0])["EVENTFLEET_SNAPSHOT_BYTES"] == "100000000"


# Monitoring


def test_all_rules_and_dashboards_are_in_the_chart() -> None:
    folder = CHART.parents[1] / "monitoring"
    groups = [
        group
        for path in sorted((folder / "rules").glob("*.yaml"))
        for group in yaml.safe_load(path.read_text())["groups"]
    ]
    [rules] = of_kind("PrometheusRule", *SMALL)
    assert rules["spec"]["groups"] == groups
    boards = {name for each in of_kind("ConfigMap", *SMALL) for name in each["data"]}
    assert boards == {path.name for path in (folder / "dashboards").glob("*.json")} != set()


def test_links_to_runbooks_begin_where_the_value_says() -> None:
    base = "https://example.com/fleet/"
    [rules] = of_kind("PrometheusRule", *SMALL, "--set", f"monitoring.runbookBase={base}")
    links = {
        rule["annotations"]["runbook_url"]
        for group in rules["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert links
    assert all(link.startswith(f"{base}docs/runbooks/Eventfleet") for link in links)


def policies(**peers: Any) -> tuple[Any, Any, Any]:
    """The rules for metrics, for requests to serve, and to the servers, with these values."""
    values = [f"networkPolicy.{name}={json.dumps(value)}" for name, value in peers.items()]
    options = *SMALL, *(part for each in values for part in ("--set-json", each))
    assert conforms(render(*options))[0]
    found = {each["metadata"]["name"]: each["spec"] for each in of_kind("NetworkPolicy", *options)}
    [fleet] = [each for name, each in found.items() if f"{name}-serve" in found]
    [of_serve] = [each for name, each in found.items() if name.endswith("-serve")]
    _names, *to_servers = fleet["egress"]
    return fleet["ingress"], of_serve["ingress"], to_servers


def test_an_empty_list_of_peers_lets_nobody_in_and_all_is_said_in_words() -> None:
    one = [{"podSelector": {"matchLabels": {"app": "shop"}}}]
    metrics, http = ([{"port": name, "protocol": "TCP"}] for name in ("metrics", "http"))
    nobody = policies(monitoring=[], clients=[], **{"servers.peers": []})
    assert nobody == ([], [], [])
    *ingress, [to_servers] = policies(monitoring="all", clients="all", **{"servers.peers": "all"})
    assert ingress == [[{"ports": metrics}], [{"ports": http}]]
    assert to_servers.keys() == {"ports"}
    *ingress, [to_servers] = policies(monitoring=one, clients=one, **{"servers.peers": one})
    assert ingress == [[{"ports": metrics, "from": one}], [{"ports": http, "from": one}]]
    assert to_servers["to"] == one
    assert {each["port"] for each in to_servers["ports"]} == {9093, 27017, 6379}


@pytest.mark.parametrize(("at", "port"), [("login.example", 443), ("login.example:8443", 8443)])
def test_keys_of_a_url_take_the_place_of_a_secret(at: str, port: int) -> None:
    url = f"https://{at}/keys"
    values = f"serve.tokenKey.secret=,serve.tokenKey.url={url}"
    assert conforms(render(*SMALL, "--set", values))[0]
    [found] = [each for each in of_kind("Deployment", *SMALL, "--set", values) if is_serve(each)]
    variables = environment(found)
    assert variables["EVENTFLEET_TOKEN_KEY_URL"] == url
    assert "EVENTFLEET_TOKEN_KEY_FILE" not in variables
    assert "token-key" not in {each["name"] for each in pod(found)["volumes"]}
    [policy] = [
        each["spec"]
        for each in of_kind("NetworkPolicy", *SMALL, "--set", values)
        if each["metadata"]["name"].endswith("-serve")
    ]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == [{"ports": [{"port": port, "protocol": "TCP"}]}]


# Mistakes


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("image.tags=2", "'tags' not allowed"),
        ("partitions=0", "at '/partitions': minimum"),
        ("workers.form=DaemonSet", "at '/workers/form': value must be one of"),
        ("kafka.security=TLS", "at '/kafka/security': value must be one of"),
        ("kafka.brokers=kafka", "at '/kafka/brokers'"),
        ("mongodb.url=mongodb://me:secret@mongodb/", "at '/mongodb/url'"),
        ("serve.tokenKey.secret=", "at '/serve/tokenKey/secret'"),
        ("serve.tokenKey.url=https://login/keys", "url and secret are set"),
        ("serve.tokenKey.url=http://login/keys", "at '/serve/tokenKey/url'"),
        (
            "serve.tokenKey.secret=,serve.tokenKey.audience=,serve.tokenKey.url=https://login/keys",
            "serve.tokenKey.audience is needed",
        ),
        ("kafka.credentials.secret=", "kafka.credentials.secret is needed"),
        ("mongodb.urlSecret.secret=", "mongodb.url or mongodb.urlSecret.secret is needed"),
        ("serve.domains[0]=bank", "serve.domains: bank is not among `domains`"),
        ("serve.domains=null", "serve.domains: names no domain"),
        ("serve.domains=any", "at '/serve/domains'"),
        ("networkPolicy.clients=any", "at '/networkPolicy/clients'"),
        ("settings.partitions=4", "settings: partitions has a value of its own"),
        ("domains[0].name=Orders", "at '/domains/0/name'"),
        ("roles.append.lagThreshold=many", "at '/roles/append/lagThreshold'"),
        ("image.digest=sha256:12", "at '/image/digest'"),
        ("workers.terminationGracePeriodSeconds=5", "terminationGracePeriodSeconds': minimum"),
        ("autoscaling.scaleDown.stabilizationSeconds=7200", "maximum"),
        ("roles.count.source=stored", "invalid propertyName 'count'"),
        ("settings.chunk_record=5", "invalid propertyName 'chunk_record'"),
        ("serve.settings.chunk_record=5", "invalid propertyName 'chunk_record'"),
        ("podDisruptionBudget.maxUnavailable=0%", "at '/podDisruptionBudget/maxUnavailable'"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: str, reason: str) -> None:
    with pytest.raises(NotRendered, match=re.escape(reason)):
        render(*SMALL, "--set", values)


def test_an_empty_list_of_served_domains_is_refused() -> None:
    with pytest.raises(NotRendered, match="at '/serve/domains'"):
        render(*SMALL, "--set-json", "serve.domains=[]")


def test_values_of_an_unknown_role_are_refused() -> None:
    values = ("--set", "domains[0].roles.apend.replicas=2")
    with pytest.raises(NotRendered, match="invalid propertyName 'apend'"):
        render(*SMALL, "--set", "domains[0].name=orders,domains[0].module=shop", *values)


def test_a_chart_without_values_names_what_is_needed() -> None:
    with pytest.raises(NotRendered) as refused:
        render()
    for place in ("/domains", "/kafka/brokers", "/serve/tokenKey/secret"):
        assert place in str(refused.value)


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda it: it["spec"].update(replica=2), id="an unknown field"),
        pytest.param(lambda it: it["spec"].update(replicas="two"), id="a number in words"),
        pytest.param(lambda it: it["spec"].pop("selector"), id="no selector"),
        pytest.param(
            lambda it: pod(it)["containers"][0].update(ports=[{"port": 6066}]), id="a port's field"
        ),
        pytest.param(
            lambda it: pod(it)["containers"][0]["env"].append({"name": "A", "value": 1}),
            id="a variable that is a number",
        ),
        pytest.param(
            lambda it: pod(it).update(volumes={"name": "tmp"}), id="volumes that are no list"
        ),
        pytest.param(
            lambda it: it.update(metadata={"labels": {"a": 1}}), id="a label that is a number"
        ),
    ],
)
def test_a_planted_fault_does_not_fit_the_schemas(edit: Callable[[Object], object]) -> None:
    faulty = deepcopy(serve())
    edit(faulty)
    valid, output = conforms(yaml.safe_dump(faulty))
    assert not valid
    assert "Invalid: 1" in output
