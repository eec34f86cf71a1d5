"""The HorizontalPodAutoscaler that KEDA makes of a ScaledObject."""

from tests.cluster.cluster import Object

KEDA_MAX_REPLICAS = 100


def autoscaler(scaled: Object) -> Object:
    """KEDA's autoscaler, whose bounds and behaviour the API server checks and KEDA's own do not."""
    spec = scaled["spec"]
    config = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {})
    name = config.get("name") or f"keda-hpa-{scaled['metadata']['name']}"
    target = {"apiVersion": "apps/v1", "kind": "Deployment", **spec["scaleTargetRef"]}
    made = {
        "scaleTargetRef": {key: target[key] for key in ("apiVersion", "kind", "name")},
        "minReplicas": spec.get("minReplicaCount") or 1,
        "maxReplicas": spec.get("maxReplicaCount") or KEDA_MAX_REPLICAS,
        "metrics": [_metric(number, scaled) for number in range(len(spec["triggers"]))],
    }
    if "behavior" in config:
        made["behavior"] = config["behavior"]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "labels": {"scaledobject.keda.sh/name": name[9:]}},
        "spec": made,
    }


def _metric(number: int, scaled: Object) -> Object:
    labels = {"scaledobject.keda.sh/name": scaled["metadata"]["name"]}
    metric = {"name": f"s{number}", "selector": {"matchLabels": labels}}
    target = {"type": "AverageValue", "averageValue": "1"}
    return {"type": "External", "external": {"metric": metric, "target": target}}
