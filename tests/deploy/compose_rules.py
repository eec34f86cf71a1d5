"""The rules that a compose configuration of ours keeps, as `compose config` prints it."""

import re
from collections.abc import Mapping
from typing import Any

from eventfleet.runtime.settings import PREFIX, Settings, variable

FLEET_IMAGE = re.compile(r"eventfleet:")
TAGGED = re.compile(r"[\w./-]+:v?\d[\w.-]*")
SECRET_NAME = re.compile(r"PASSWORD|SECRET|CREDENTIAL|API_?KEY|TOKEN$", re.IGNORECASE)
CREDENTIALS = re.compile(r"://[^/\s]*:[^/\s]*@")
CONDITIONS = ("service_healthy", "service_completed_successfully")
SETTINGS = {variable(field) for field in Settings.model_fields}


def problems(config: Mapping[str, Any]) -> list[str]:
    """The rules that the services break, each with the service's name."""
    return [
        f"{name}: {problem}"
        for name, service in config["services"].items()
        for problem in (
            *_image_problems(service),
            *_life_problems(service, config["services"]),
            *_access_problems(service),
            *_environment_problems(service),
            *(_fleet_problems(service) if is_fleet(service) else ()),
        )
    ]


def is_fleet(service: Mapping[str, Any]) -> bool:
    """Checks whether a service runs our image."""
    return bool(FLEET_IMAGE.match(service.get("image", "")))


def runs_once(service: Mapping[str, Any]) -> bool:
    return bool(service.get("restart") == "no")


def _image_problems(service: Mapping[str, Any]) -> list[str]:
    image = service.get("image", "")
    return [] if TAGGED.fullmatch(image) else [f"image {image!r} has no version tag"]


def _life_problems(service: Mapping[str, Any], services: Mapping[str, Any]) -> list[str]:
    found = []
    if "restart" not in service:
        found.append("no restart policy")
    disabled = service.get("healthcheck", {}).get("disable", False)
    if not runs_once(service) and (disabled or "test" not in service.get("healthcheck", {})):
        found.append("no health check")
    if (service.get("healthcheck", {}).get("test") or ["CMD"])[0] != "CMD":
        found.append("the health check needs a shell")
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    found += [f"no limit of {name}" for name in ("cpus", "memory") if not limits.get(name)]
    for other, wait in (service.get("depends_on") or {}).items():
        expected = CONDITIONS[runs_once(services[other])]
        if wait["condition"] != expected:
            found.append(f"waits for {other} to be {wait['condition']}, not {expected}")
    return found


def _access_problems(service: Mapping[str, Any]) -> list[str]:
    open_ports = [
        port["target"] for port in service.get("ports", []) if port.get("host_ip") != "127.0.0.1"
    ]
    found = [f"port {port} is open to other machines" for port in open_ports]
    if service.get("privileged") or service.get("network_mode") == "host":
        found.append("has the rights of the host")
    return found


def _environment_problems(service: Mapping[str, Any]) -> list[str]:
    environment = service.get("environment") or {}
    ours = {name for name in environment if name.startswith(PREFIX)}
    return [
        *(f"{name} is no setting" for name in sorted(ours - SETTINGS)),
        *(
            f"{name} holds a secret"
            for name, value in environment.items()
            if value and (SECRET_NAME.search(name) or CREDENTIALS.search(value))
        ),
    ]


def _fleet_problems(service: Mapping[str, Any]) -> list[str]:
    found = []
    if service.get("pull_policy") != "never":
        found.append("its image may come from a registry")
    if not service.get("init"):
        found.append("process 1 ignores SIGTERM while it starts")
    if not service.get("read_only"):
        found.append("its root can be written to")
    if service.get("cap_drop") != ["ALL"]:
        found.append("keeps capabilities")
    if "no-new-privileges:true" not in service.get("security_opt", []):
        found.append("may gain privileges")
    if "user" in service and service.get("network_mode") != "none":
        found.append("another user than the image's, with a network")
    return found
