"""Evidence of what a namespace was like when a test failed. Secrets are not part of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.e2e.harness.namespace import Namespace
from tests.e2e.harness.programs import CommandFailed

KINDS: Final = (
    "deployments,statefulsets,jobs,pods,services,endpointslices,persistentvolumeclaims,"
    "networkpolicies,poddisruptionbudgets,configmaps"
)
VIEWS: Final = {
    "events.txt": ("get", "events", "--sort-by=.lastTimestamp"),
    "objects.txt": ("get", KINDS, "--output=wide"),
    "describe.txt": ("describe", "deployments,statefulsets,jobs,pods"),
    "nodes.txt": ("describe", "nodes"),
}
LOG_LINES: Final = 5000


def collect(namespace: Namespace, folder: Path) -> None:
    """Write events, descriptions and the logs of every container, also of the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, view in VIEWS.items():
        (folder / name).write_text(_said(namespace, *view))
    listed = _said(
        namespace,
        "get",
        "pods",
        "--output=jsonpath={range .items[*]}{.metadata.name}{' '}{.spec.initContainers[*].name}"
        "{' '}{.spec.containers[*].name}{'\\n'}{end}",
    )
    for line in listed.splitlines():
        pod, *containers = line.split()
        for container in containers:
            for suffix, more in (("", ()), (".previous", ("--previous",))):
                logs = _said(
                    namespace, "logs", pod, f"--container={container}", f"--tail={LOG_LINES}", *more
                )
                if "previous terminated container" not in logs:
                    (folder / f"{pod}.{container}{suffix}.log").write_text(logs)


def folder_name(test: str) -> str:
    """A test's name as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", test).strip("-")


def _said(namespace: Namespace, *arguments: str) -> str:
    """What kubectl says; its complaint when it fails, so that the rest is still collected."""
    try:
        return namespace.kubectl(*arguments, timeout_seconds=60)
    except CommandFailed as failure:
        return str(failure)
