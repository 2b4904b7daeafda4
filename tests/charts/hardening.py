"""The hardening row: what every container must have, and what Pod Security `restricted` forbids."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.charts.rendering import Manifest

PINNED = re.compile(r"^[^@\s]+(:(?!latest$)[\w][\w.-]*|@sha256:[0-9a-f]{64})$")
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def weaknesses(pod: Manifest, *, serves: bool) -> list[str]:
    """What is missing in the row of a pod; ``serves`` is for pods that run until told to stop."""
    spec = pod["spec"]
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    found = list(pod_weaknesses(spec))
    for container in containers:
        reasons = list(container_weaknesses(container))
        found += [f"{container.get('name')}: {reason}" for reason in reasons]
    for container in spec["containers"] if serves else []:
        found += [f"{container['name']}: no {probe}" for probe in PROBES if probe not in container]
    return found


def pod_weaknesses(spec: Manifest) -> Iterator[str]:
    """What is wrong with the pod as a whole."""
    security = spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        yield "may run as root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "no seccomp profile"
    if spec.get("automountServiceAccountToken") is not False:
        yield "mounts a service account's token"
    if spec.get("enableServiceLinks") is not False:
        yield "other services' addresses in its environment"
    shared = ("hostNetwork", "hostPID", "hostIPC")
    yield from (f"{name} is set" for name in shared if spec.get(name))
    kinds = {kind for volume in spec.get("volumes", []) for kind in set(volume) - {"name"}}
    yield from (f"a volume of the type {kind}" for kind in kinds - RESTRICTED_VOLUMES)


def container_weaknesses(container: Manifest) -> Iterator[str]:
    """What is wrong with one container."""
    security = container.get("securityContext", {})
    if security.get("runAsNonRoot") is not True:
        yield "may run as root"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "writable root file system"
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        yield "may gain privileges"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield "keeps capabilities"
    if not PINNED.match(container.get("image", "")):
        yield f"image {container.get('image')} is not pinned"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= set(resources.get("requests", {})):
        yield "requests nothing"
    if "memory" not in resources.get("limits", {}):
        yield "no memory limit"
    yield from ("a port of the node" for port in container.get("ports", []) if "hostPort" in port)
