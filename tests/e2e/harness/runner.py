"""Pods of our own, made of an image that the cluster has already."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from tests.e2e.harness.namespace import Namespace

READY_SECONDS: Final = 90
LIFETIME_SECONDS: Final = 1200
USER_ID: Final = 65532


def manifest(
    name: str, *, image: str, command: Sequence[str], labels: Mapping[str, str]
) -> dict[str, Any]:
    """A pod that meets Pod Security ``restricted`` and does not live for ever."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": LIFETIME_SECONDS,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "run",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": list(command),
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


@contextmanager
def running(
    namespace: Namespace,
    name: str,
    *,
    image: str,
    command: Sequence[str],
    labels: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Run a pod for as long as the context lasts; yields its name once it runs."""
    pod = manifest(name, image=image, command=command, labels=labels or {"e2e": name})
    namespace.kubectl("create", "--filename=-", stdin=json.dumps(pod))
    try:
        namespace.kubectl(
            "wait",
            f"pod/{name}",
            "--for=condition=Ready",
            f"--timeout={READY_SECONDS}s",
            timeout_seconds=READY_SECONDS + 10,
        )
        yield name
    finally:
        namespace.kubectl("delete", "pod", name, "--grace-period=0", "--force", "--wait=true")
