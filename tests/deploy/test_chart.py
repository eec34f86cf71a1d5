"""The Helm chart's forms: valid, bound to the code's own names, and strict about values."""

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventfleet.check.shape_check import ROLLOUT
from eventfleet.runtime.settings import PREFIX, Settings, file_fields
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
    known = {PREFIX + field.upper() for field in [*Settings.model_fields, *file_fields()]}
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


@pytest.mark.parametrize("prefix", ["", "staging."])
@pytest.mark.parametrize("options", [SMALL, LARGE], ids=["small", "large"])
def test_lag_scales_each_worker_up_to_its_partitions(options: tuple[str, ...], prefix: str) -> None:
    options = (*options, "--set", f"topicPrefix={prefix}")
    groups = Settings(topic_prefix=prefix).group_prefix
    scaled = {each["metadata"]["name"]: each["spec"] for each in of_kind("ScaledObject", *options)}
    for worker in workers(options):
        _, role, _, domain = container(worker)["args"]
        spec = scaled[worker["metadata"]["name"]]
        [trigger] = spec["triggers"]
        assert trigger["metadata"]["consumerGroup"] == consumer_group(groups, domain, role)
        assert trigger["metadata"]["topic"] == source(role, domain, prefix)
        variables = environment(worker)
        assert variables.get("EVENTFLEET_TOPIC_PREFIX", "") == prefix
        assert variables["EVENTFLEET_GROUP_PREFIX"] == groups
        most = int(str(variables["EVENTFLEET_PARTITIONS"]))
        assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, most)
        assert "replicas" not in worker["spec"]
        assert spec["scaleTargetRef"] == {"name": worker["metadata"]["name"]}


def source(role: str, domain: str, prefix: str) -> str:
    topics = Topics.of(domain, prefix)
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
    of_many_processes = Settings.model_fields.keys() - {"data"}
    assert schema["settings"]["propertyNames"]["enum"] == sorted(of_many_processes)


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


# A roll-out in steps


ORDER = ["append", "snapshot", "relay", "project", "command", "serve"]
STEPS = (*SMALL, "--set", "roles.project.enabled=true", "--set-string", "image.tag=2.1")


@pytest.mark.parametrize(
    ("through", "previous"),
    [*((role, "tag=2.0") for role in ORDER), ("append", f"digest=sha256:{'0' * 64}")],
)
def test_roles_behind_a_step_of_a_roll_out_keep_their_image_and_pods(
    through: str, previous: str
) -> None:
    """Their pods are not replaced: no label of theirs changes, either."""
    step = "--set-string", f"rollout.through={through},rollout.previous.{previous}"
    key, value = previous.split("=")
    before = (*STEPS, "--set-string", f"image.tag=,image.{previous}")
    pods = {step: by_component((*STEPS, *step)), None: by_component(before)}
    for component in (*ORDER, "topics"):
        is_behind = component in ORDER[ORDER.index(through) + 1 :]
        expected = {"tag": f":{value}", "digest": f"@{value}"}[key] if is_behind else ":2.1"
        [image] = [each["image"] for each in pods[step][component]["spec"]["containers"]]
        assert image == f"eventfleet{expected}"
        assert (pods[step][component] == pods[None][component]) is is_behind


def by_component(options: tuple[str, ...]) -> dict[str, Object]:
    """The pods' templates, by role; of serve and topics too."""
    return {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"]
        for each in workloads(options)
    }


def test_the_order_of_a_roll_out_is_that_which_check_names() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["properties"]["rollout"]["properties"]["through"]["enum"] == ORDER
    assert re.findall(r"\w+", ROLLOUT.replace("roll out", "")) == [
        *("append", "first", "then", "snapshot", "relay", "project", "and", "command"),
        *("serve", "last"),
    ]
    assert {*ORDER} == {*ROLES, "serve"}


# Secrets of roles

SHARED = {
    "kafka": "kafka.credentials.secret",
    "mongodb": "mongodb.urlSecret.secret",
    "redis": "redis.urlSecret.secret",
}
OWN_ALONE = (
    *(*LARGE, "--set", "autoscaling.enabled=false"),
    *("--set", ",".join(f"{name}=" for name in SHARED.values())),
)
"""Each workload has users of its own, and there are no shared ones."""


@pytest.mark.parametrize("files", ["true", "false"])
def test_where_each_role_has_users_of_its_own_none_is_shared(files: str) -> None:
    manifest = render(*OWN_ALONE, "--set", f"secretFiles={files}")
    found = set(re.findall(r'(?:secretName|secretKeyRef:\s+name): "(.*?)"', manifest))
    assert {"append-kafka", "decider-mongodb", "serve-redis", "topics-kafka"} <= found
    assert not found & {"", "eventfleet-kafka", "eventfleet-mongodb", "eventfleet-redis"}


@pytest.mark.parametrize("files", ["true", "false"])
@pytest.mark.parametrize(
    ("place", "part"),
    [*product(["roles.append", "roles.snapshot", "serve"], SHARED), ("topics", "kafka")],
)
def test_a_user_that_is_neither_a_roles_own_nor_shared_is_asked_for(
    place: str, part: str, files: str
) -> None:
    options = (*OWN_ALONE, "--set", f"{place}.secrets.{part}=,secretFiles={files}")
    with pytest.raises(NotRendered, match=f"{SHARED[part]} is needed"):
        render(*options)


# Secrets as files


def test_secrets_are_files_by_a_value() -> None:
    files = (*LARGE, "--set", "secretFiles=true")
    by_variables = {each["metadata"]["name"]: environment(each) for each in workloads(LARGE)}
    for workload in workloads(files):
        component = workload["metadata"]["labels"]["app.kubernetes.io/component"]
        variables = environment(workload)
        assert not any("secretKeyRef" in str(value) for value in variables.values())
        parts = {"kafka": {"KAFKA_USERNAME": "username", "KAFKA_PASSWORD": "password"}}
        if component != "topics":
            parts |= {"mongodb": {"MONGO_URL": "url"}, "redis": {"REDIS_URL": "url"}}
        volumes = {each["name"]: each.get("secret") for each in pod(workload)["volumes"]}
        mounts = {each["name"]: each for each in container(workload)["volumeMounts"]}
        own = by_variables[workload["metadata"]["name"]]
        for part, settings in parts.items():
            mount = mounts[f"secrets-{part}"]
            assert mount["readOnly"] is True
            for setting, key in settings.items():
                reference = own[f"EVENTFLEET_{setting}"]["secretKeyRef"]  # type: ignore[index]
                assert volumes[f"secrets-{part}"]["secretName"] == reference["name"]
                assert reference["key"] == key
                assert variables[f"EVENTFLEET_{setting}_FILE"] == f"{mount['mountPath']}/{key}"
    valid, output = conforms(render(*files))
    assert valid, output


def by_name(options: tuple[str, ...], name: str) -> Object:
    [found] = [each for each in workloads(options) if each["metadata"]["name"] == name]
    return found


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


# Values that YAML reads otherwise


HOSTILE = {
    "image": {"pullSecrets": ["null", "1e3"], "tag": "1.0"},
    "domains": [{"name": name, "module": "y.no"} for name in ("on", "y", "null", "e1", "a_b")],
    "groupPrefix": "on",
    "settings": {"log_format": "json", "http_access_log": True, "chunk_bytes": 100_000_000},
    "kafka": {
        "brokers": "kafka:9092",
        "security": "SASL_SSL",
        "credentials": {"secret": "123", "usernameKey": "on", "passwordKey": "1.5"},
        "tls": {"secret": "0", "caKey": "no", "certKey": "0x1", "keyKey": "off"},
    },
    "mongodb": {"database": "2024", "urlSecret": {"secret": "1e3", "key": "null"}},
    "redis": {"urlSecret": {"secret": "true", "key": "y"}, "tls": {"secret": "0b1"}},
    "workers": {
        "podAnnotations": {"a/b": "on", "c": "a: b # c"},
        "nodeSelector": {"n": "1"},
        "tolerations": [{"key": "on", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}],
        "priorityClassName": "1.0",
    },
    "serve": {
        "autoscaling": {"prometheusUrl": "http://h/?a=b&c=%22#x"},
        "tokenKey": {"secret": "1", "key": "1", "issuer": "a: 'b\n", "audience": "~"},
    },
    "networkPolicy": {
        "monitoring": [{"podSelector": {"matchLabels": {"a": "on"}}}],
        "servers": {"peers": [{"ipBlock": {"cidr": "::/0", "except": ["10.0.0.0/8"]}}]},
    },
    "monitoring": {"podMonitor": {"labels": {"on": "off"}}, "rules": {"labels": {"r": "1"}}},
    "podDisruptionBudget": {"maxUnavailable": 1_000_000},
    "partitions": 1_000_000,
}


@pytest.fixture
def given(tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """Writes the hostile values, with others merged into them, and returns the options."""

    def write(**values: Object) -> tuple[str, ...]:
        path = tmp_path / "values.json"
        path.write_text(json.dumps(HOSTILE | values))
        return ("--values", str(path))

    return write


@pytest.mark.parametrize(("release", "secret_files"), [("on", False), (f"{'a' * 19}.b", True)])
def test_every_value_is_a_text_whatever_yaml_reads_in_it(
    given: Callable[..., tuple[str, ...]], release: str, secret_files: bool
) -> None:
    options = given(secretFiles=secret_files)
    valid, output = conforms(render(*options, release=release))
    assert valid, output
    rendered = objects(*options, release=release)
    assert not list(wrong_texts(rendered))
    assert {each["metadata"]["labels"]["app.kubernetes.io/instance"] for each in rendered} == {
        release
    }
    names = [(each["kind"], each["metadata"]["name"]) for each in rendered]
    assert len({*names}) == len(names)
    for _, name in names:
        assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name)
    variables = {
        name: value
        for each in workloads(options)
        for name, value in environment(each).items()
        if container(each)["args"][-1] == "on"
    }
    assert variables["EVENTFLEET_MONGO_DATABASE"] == "2024"
    assert variables["EVENTFLEET_GROUP_PREFIX"] == "on"
    assert variables["EVENTFLEET_PARTITIONS"] == "1000000"
    assert variables["EVENTFLEET_CHUNK_BYTES"] == "100000000"
    assert (
        environment(by_name(options, "fleet-eventfleet-serve"))["EVENTFLEET_TOKEN_ISSUER"]
        == (
            HOSTILE["serve"]["tokenKey"]["issuer"]  # type: ignore[index]
        )
    )
    groups = {
        trigger["metadata"].get("consumerGroup")
        for each in of_kind("ScaledObject", *options)
        for trigger in each["spec"]["triggers"]
    }
    assert "on.null.append" in groups


TEXTS = {"name", "key", "secretName", "value", "image", "priorityClassName"}
"""The fields of these names are texts, wherever they stand."""


def wrong_texts(found: object, field: str = "") -> Iterator[str]:
    """The fields, labels, annotations and arguments that are no texts."""
    if isinstance(found, list):
        for each in found:
            yield from wrong_texts(each, field)
    elif isinstance(found, dict):
        policy = found.keys() >= {"type", "periodSeconds"}  # a scaling policy's value is a number
        for name, each in found.items():
            yield from wrong_texts(each, "" if policy else field if field in MAPPINGS else name)
    elif field in TEXTS | MAPPINGS | {"args"} and not isinstance(found, str):
        yield f"{field}: {found!r}"


MAPPINGS = {"labels", "annotations", "matchLabels", "metadata", "nodeSelector"}


def test_a_text_that_is_a_number_or_empty_is_found() -> None:
    assert [*wrong_texts({"metadata": {"name": 1}})] == ["metadata: 1"]
    assert [*wrong_texts([{"name": None}])] == ["name: None"]
    assert [*wrong_texts({"labels": {"a": True}})] == ["labels: True"]
    assert [*wrong_texts({"args": ["a", True]})] == ["args: True"]


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
        ("rollout.through=append", "rollout.previous.tag, or digest, is needed"),
        ("kafka.tls.certKey=tls.crt", "kafka.tls: certKey and keyKey are needed together"),
        ("serve.autoscaling.min=11", "serve.autoscaling: min 11 is above max 10"),
        ("serve.metricsPort=8080", "serve.port and serve.metricsPort are both 8080"),
        ("roles.relay.resources.limits.memory=128Mi", "roles.relay.resources: the limit of memory"),
        ("serve.resources.limits.cpu=400m", "serve.resources: the limit of cpu, 400m, is below"),
        ("topics.resources.requests.memory=1Gi", "topics.resources: the limit of memory, 256Mi"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: str, reason: str) -> None:
    with pytest.raises(NotRendered, match=re.escape(reason)):
        render(*SMALL, "--set", values)


def test_an_empty_list_of_served_domains_is_refused() -> None:
    with pytest.raises(NotRendered, match="at '/serve/domains'"):
        render(*SMALL, "--set-json", "serve.domains=[]")


WRONG = {
    "image.tag=2": "at '/image/tag': got number, want string",
    "rollout.previous.tag=a/b": "at '/rollout/previous/tag'",
    "image.repository=a b": "at '/image/repository'",
    "image.pullSecrets[0]=": "at '/image/pullSecrets/0'",
    "rollout.through=appends": "at '/rollout/through': value must be one of",
    "domains[0].name=true": "at '/domains/0/name': got boolean, want string",
    "domains[1].name=a_": "at '/domains/1/name'",
    "groupPrefix=true": "at '/groupPrefix': got boolean, want string",
    "topicPrefix=staging": "at '/topicPrefix': 'staging' does not match pattern",
    "mongodb.database=2024": "at '/mongodb/database': got number, want string",
    "mongodb.urlSecret.secret=a..b": "at '/mongodb/urlSecret/secret'",
    "mongodb.urlSecret.key=a/b": "at '/mongodb/urlSecret/key'",
    "kafka.tls.caKey=../ca": "at '/kafka/tls/caKey'",
    "roles.append.resources.limits.memory=512MB": "at '/roles/append/resources/limits",
    "workers.nodeSelector.a=true": "at '/workers/nodeSelector/a': got boolean, want string",
    "workers.tolerations[0].value=1": "at '/workers/tolerations/0/value'",
    "workers.priorityClassName=A": "at '/workers/priorityClassName'",
    "workers.podAnnotations.a=1": "at '/workers/podAnnotations/a'",
    "networkPolicy.clients[0].podSelector.matchLabels.a=1": "at '/networkPolicy/clients/0",
    "networkPolicy.clients[0].ipBlock.cidr=10.0.0.1": "at '/networkPolicy/clients/0",
    "monitoring.rules.labels.a=a b": "at '/monitoring/rules/labels/a'",
    "monitoring.podMonitor.labels.helm\\.sh/chart=a": "helm.sh/chart",
    "monitoring.runbookBase=https://a b/": "at '/monitoring/runbookBase'",
}


def test_all_wrong_values_are_named_at_once() -> None:
    domain = "domains[0].module=shop"
    wrong = [option for value in (domain, *WRONG) for option in ("--set", value)]
    with pytest.raises(NotRendered) as refused:
        render(*SMALL, *wrong)
    assert [reason for reason in WRONG.values() if reason not in str(refused.value)] == []


def test_values_of_an_unknown_role_are_refused() -> None:
    values = ("--set", "domains[0].roles.apend.replicas=2")
    with pytest.raises(NotRendered, match="invalid propertyName 'apend'"):
        render(*SMALL, "--set", "domains[0].name=orders,domains[0].module=shop", *values)


def test_two_domains_of_one_workload_name_are_refused() -> None:
    named = [f"domains[{n}].name={name},domains[{n}].module=shop" for n, name in enumerate(DOUBLE)]
    with pytest.raises(NotRendered, match="domains: a_b and a-b have workloads of one name"):
        render(*SMALL, "--set", ",".join(named))


DOUBLE = ("a_b", "a-b")


def test_lag_is_read_by_a_user_that_is_named() -> None:
    """Each role may have its own; KEDA needs one, too."""
    options = (*LARGE, "--set", "kafka.credentials.secret=")
    with pytest.raises(NotRendered, match="needed with SASL and autoscaling: KEDA reads lag"):
        render(*options)
    assert not of_kind("TriggerAuthentication", *options, "--set", "autoscaling.enabled=false")


def test_a_release_that_begins_with_a_digit_is_refused() -> None:
    with pytest.raises(NotRendered, match="the release name 1a begins with a digit"):
        render(*SMALL, release="1a")


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
