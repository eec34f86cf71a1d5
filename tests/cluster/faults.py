"""Mistakes in manifests, each with the reason by which the API server refuses it."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.cluster.cluster import Object

Edit = Callable[[Object], object]


@dataclass(frozen=True)
class Fault:
    """An edit of a rendered object of a kind, and a part of the answer that refuses it."""

    name: str
    kind: str
    edit: Edit
    reason: str


def pod(workload: Object) -> Object:
    """The pod specification of a workload."""
    found: Object = workload["spec"]["template"]["spec"]
    return found


def container(workload: Object) -> Object:
    """The first container of a workload."""
    found: Object = pod(workload)["containers"][0]
    return found


def rule(rules: Object) -> Object:
    """The first rule of a PrometheusRule."""
    found: Object = rules["spec"]["groups"][0]["rules"][0]
    return found


def endpoint(monitor: Object) -> Object:
    """The first endpoint of a PodMonitor."""
    found: Object = monitor["spec"]["podMetricsEndpoints"][0]
    return found


def _behaviour(autoscaler: Object, seconds: int) -> None:
    autoscaler["spec"]["behavior"] = {"scaleDown": {"stabilizationWindowSeconds": seconds}}


def _host_path(workload: Object) -> None:
    pod(workload).setdefault("volumes", []).append({"name": "host", "hostPath": {"path": "/var"}})


def _secret(reference: Object) -> Edit:
    variable = {"name": "PLANTED", "valueFrom": {"secretKeyRef": reference}}
    return lambda workload: container(workload).setdefault("env", []).append(variable)


def _from(block: Object) -> Edit:
    peers = [{"from": [{"ipBlock": block}]}]
    return lambda policy: policy["spec"].update(ingress=peers, policyTypes=["Ingress"])


MANIFEST_FAULTS = (
    Fault(
        "an API version that is no longer served",
        "Deployment",
        lambda it: it.update(apiVersion="apps/v1beta1"),
        'no matches for kind "Deployment" in version "apps/v1beta1"',
    ),
    Fault(
        "an unknown field",
        "Deployment",
        lambda it: it["spec"].update(replica=2),
        'unknown field "spec.replica"',
    ),
    Fault(
        "a field in the wrong place",
        "Deployment",
        lambda it: pod(it).update(readinessProbe={"tcpSocket": {"port": 1}}),
        'unknown field "spec.template.spec.readinessProbe"',
    ),
    Fault(
        "a name in capitals",
        "Deployment",
        lambda it: it["metadata"].update(name="Append"),
        "a lowercase RFC 1123 subdomain must consist of",
    ),
    Fault(
        "a label with a space",
        "Deployment",
        lambda it: it["metadata"]["labels"].update(team="event store"),
        "a valid label must be",
    ),
    Fault(
        "a selector that does not match its pods",
        "Deployment",
        lambda it: it["spec"]["selector"]["matchLabels"].update(planted="yes"),
        "`selector` does not match template `labels`",
    ),
    Fault(
        "a roll-out that may neither add nor remove",
        "Deployment",
        lambda it: it["spec"].update(
            strategy={
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0},
            }
        ),
        "may not be 0 when `maxSurge` is 0",
    ),
    Fault(
        "a quantity with another unit",
        "Deployment",
        lambda it: container(it)["resources"].update(requests={"memory": "512 MB"}),
        "quantities must match the regular expression",
    ),
    Fault(
        "a request above its limit",
        "Deployment",
        lambda it: container(it).update(
            resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}
        ),
        "must be less than or equal to memory limit",
    ),
    Fault(
        "a port out of range",
        "Deployment",
        lambda it: container(it).update(ports=[{"name": "metrics", "containerPort": 66060}]),
        "must be between 1 and 65535",
    ),
    Fault(
        "two containers of one name",
        "Deployment",
        lambda it: pod(it)["containers"].append(dict(container(it))),
        "Duplicate value",
    ),
    Fault(
        "a probe with two handlers",
        "Deployment",
        lambda it: container(it).update(
            livenessProbe={"tcpSocket": {"port": 1}, "httpGet": {"port": 1}}
        ),
        "may not specify more than 1 handler type",
    ),
    Fault(
        "a liveness probe that must succeed twice",
        "Deployment",
        lambda it: container(it).update(
            livenessProbe={"tcpSocket": {"port": 1}, "successThreshold": 2}
        ),
        "livenessProbe.successThreshold: Invalid value: 2: must be 1",
    ),
    Fault(
        "a grace period below zero",
        "Deployment",
        lambda it: pod(it).update(terminationGracePeriodSeconds=-1),
        "terminationGracePeriodSeconds",
    ),
    Fault(
        "a variable whose value is a number",
        "Deployment",
        lambda it: container(it).setdefault("env", []).append({"name": "PORT", "value": 6066}),
        "cannot unmarshal number into Go struct field EnvVar",
    ),
    Fault(
        "a secret reference without the secret's name",
        "Deployment",
        _secret({"key": "password"}),
        'secretKeyRef.name: Invalid value: ""',
    ),
    Fault(
        "a secret reference without a key",
        "Deployment",
        _secret({"name": "kafka"}),
        "secretKeyRef.key: Required value",
    ),
    Fault(
        "a mount without its volume",
        "Deployment",
        lambda it: (
            container(it)
            .setdefault("volumeMounts", [])
            .append({"name": "absent", "mountPath": "/planted"})
        ),
        '].name: Not found: "absent"',
    ),
    Fault(
        "a spread over zones with an unknown policy",
        "Deployment",
        lambda it: pod(it).update(
            topologySpreadConstraints=[
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "Maybe"}
            ]
        ),
        'whenUnsatisfiable: Unsupported value: "Maybe"',
    ),
    Fault(
        "an unknown order of starting",
        "StatefulSet",
        lambda it: it["spec"].update(podManagementPolicy="AllAtOnce"),
        'podManagementPolicy: Invalid value: "AllAtOnce"',
    ),
    Fault(
        "a job whose pod restarts for ever",
        "Job",
        lambda it: pod(it).update(restartPolicy="Always"),
        "restartPolicy: Required value: valid values",
    ),
    Fault(
        "a job's time limit in words",
        "Job",
        lambda it: it["spec"].update(activeDeadlineSeconds="10 minutes"),
        "activeDeadlineSeconds",
    ),
    Fault(
        "a service with a port's name that is too long",
        "Service",
        lambda it: it["spec"].update(
            ports=[{"name": "http", "port": 80, "targetPort": "the-port-of-the-api"}]
        ),
        "must be no more than 15 characters",
    ),
    Fault(
        "a setting that is a number",
        "ConfigMap",
        lambda it: it.update(data={"EVENTFLEET_METRICS_PORT": 6066}),
        "cannot unmarshal number into Go struct field ConfigMap.data of type string",
    ),
    Fault(
        "a disruption budget with both bounds",
        "PodDisruptionBudget",
        lambda it: it["spec"].update(minAvailable=1, maxUnavailable=1),
        "minAvailable and maxUnavailable cannot be both set",
    ),
    Fault(
        "a network that is no CIDR",
        "NetworkPolicy",
        _from({"cidr": "10.0.0.0/33"}),
        "ipBlock.cidr: Invalid value",
    ),
    Fault(
        "an exception outside of its network",
        "NetworkPolicy",
        _from({"cidr": "10.0.0.0/8", "except": ["192.168.0.0/16"]}),
        "must be a strict subset of `cidr`",
    ),
    Fault(
        "a scaler with its least above its most",
        "ScaledObject",
        lambda it: it["spec"].update(minReplicaCount=9, maxReplicaCount=8),
        "minReplicaCount must be less than or equal to maxReplicaCount",
    ),
    Fault(
        "a scaler with an unknown field",
        "ScaledObject",
        lambda it: it["spec"].update(maxReplicas=8),
        'unknown field "spec.maxReplicas"',
    ),
    Fault(
        "a trigger whose threshold is a number",
        "ScaledObject",
        lambda it: it["spec"]["triggers"][0]["metadata"].update(lagThreshold=1000),
        "lagThreshold: Invalid value",
    ),
    Fault(
        "a trigger without a type",
        "ScaledObject",
        lambda it: it["spec"]["triggers"][0].pop("type"),
        "triggers[0].type: Required value",
    ),
    Fault(
        "KEDA's autoscaler with its least above its most",
        "HorizontalPodAutoscaler",
        lambda it: it["spec"].update(minReplicas=9, maxReplicas=8),
        "must be greater than or equal to `minReplicas`",
    ),
    Fault(
        "a scale-down that looks back over more than an hour",
        "HorizontalPodAutoscaler",
        lambda it: _behaviour(it, 7200),
        "must be less than or equal to 3600",
    ),
    Fault(
        "a scrape of a port by number",
        "PodMonitor",
        lambda it: endpoint(it).update(port=6066),
        "podMetricsEndpoints[0].port: Invalid value",
    ),
    Fault(
        "a scrape interval in words",
        "PodMonitor",
        lambda it: endpoint(it).update(interval="30 seconds"),
        "podMetricsEndpoints[0].interval: Invalid value",
    ),
    Fault(
        "an alert whose time is in words",
        "PrometheusRule",
        lambda it: rule(it).update({"for": "5 minutes"}),
        "rules[0].for: Invalid value",
    ),
    Fault(
        "an alert without an expression",
        "PrometheusRule",
        lambda it: rule(it).pop("expr"),
        "rules[0].expr: Required value",
    ),
    Fault(
        "an alert with labels in a list",
        "PrometheusRule",
        lambda it: rule(it).update(labels=["severity"]),
        "rules[0].labels: Invalid value",
    ),
)

# Pod Security `restricted` warns of a workload, and would refuse its pods.
SECURITY_FAULTS = (
    Fault(
        "a privileged container",
        "Deployment",
        lambda it: container(it)["securityContext"].update(
            privileged=True, allowPrivilegeEscalation=True
        ),
        "privileged",
    ),
    Fault(
        "a container that may gain rights",
        "Deployment",
        lambda it: container(it)["securityContext"].pop("allowPrivilegeEscalation"),
        "allowPrivilegeEscalation != false",
    ),
    Fault(
        "a container that keeps capabilities",
        "Deployment",
        lambda it: container(it)["securityContext"].pop("capabilities"),
        "unrestricted capabilities",
    ),
    Fault(
        "a container that runs as root",
        "Deployment",
        lambda it: container(it)["securityContext"].update(runAsNonRoot=False),
        "runAsNonRoot != true",
    ),
    Fault(
        "system calls unconfined",
        "Deployment",
        lambda it: container(it)["securityContext"].update(seccompProfile={"type": "Unconfined"}),
        "seccompProfile",
    ),
    Fault("a folder of the host", "Deployment", _host_path, "restricted volume types"),
    Fault(
        "the host's network",
        "Deployment",
        lambda it: pod(it).update(hostNetwork=True),
        "host namespaces",
    ),
)
