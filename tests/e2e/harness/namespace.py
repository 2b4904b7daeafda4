"""One namespace of a cluster: its pods, their logs, and ways into them."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from kubernetes import client
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.forward import PortForward
from tests.e2e.harness.interaction import Interaction
from tests.e2e.harness.pod import Pod
from tests.e2e.harness.programs import run
from tests.e2e.harness.waiting import eventually

RESTRICTED: Final = {
    f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")
}
REQUEST_SECONDS: Final = 30


class Namespace:
    """A namespace in which every pod has to meet Pod Security ``restricted``."""

    def __init__(self, cluster: Cluster, name: str, *, logs: Path) -> None:
        """Describe it; ``logs`` is the folder for the output of the port-forwards."""
        self.cluster, self.name = cluster, name
        self.prefix = (*cluster.kubectl, "--namespace", name)
        self._logs, self._numbers = logs, itertools.count(1)
        self._api = cluster.api()
        self.core = client.CoreV1Api(self._api)

    def __enter__(self) -> Self:
        """Use it; it is made by :meth:`create`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections to the cluster."""
        self._api.close()  # type: ignore[no-untyped-call]  # the client has no annotations here

    def create(self) -> None:
        """Make it, with the labels that refuse any pod below ``restricted``."""
        metadata = client.V1ObjectMeta(name=self.name, labels=RESTRICTED)
        body = client.V1Namespace(metadata=metadata)
        self.core.create_namespace(body, _request_timeout=REQUEST_SECONDS)

    def delete(self, *, timeout_seconds: float) -> None:
        """Remove it with all that is in it, and wait until it is gone."""
        limit = f"--timeout={timeout_seconds}s"
        self.kubectl(
            "delete",
            "namespace",
            self.name,
            "--ignore-not-found",
            limit,
            timeout_seconds=timeout_seconds + 10,
        )

    def kubectl(
        self, *arguments: str, timeout_seconds: float = 60, stdin: str | None = None
    ) -> str:
        """Run kubectl here and return what it wrote."""
        return run(*self.prefix, *arguments, timeout_seconds=timeout_seconds, stdin=stdin)

    def exec(self, pod: str, *command: str, timeout_seconds: float = 60) -> str:
        """Run a command in a pod and return what it wrote."""
        return self.kubectl("exec", pod, "--", *command, timeout_seconds=timeout_seconds)

    def logs(self, pod: str, *, lines: int | None = None) -> str:
        """What a pod has written; the last lines of it, or all.

        Asked of the cluster itself, not by kubectl: whoever waits for a line asks often.
        """
        # As it is: the client would take a line of JSON for an object of its own.
        answer: Any = self.core.read_namespaced_pod_log(
            pod,
            self.name,
            tail_lines=lines,
            _preload_content=False,
            _request_timeout=REQUEST_SECONDS,
        )
        said: bytes = answer.data
        return said.decode()

    def pods(self, selector: str) -> list[Pod]:
        """The pods that the label selector chooses, by name."""
        listed = self.core.list_namespaced_pod(
            self.name, label_selector=selector, _request_timeout=REQUEST_SECONDS
        )
        return sorted(map(Pod.of, listed.items), key=lambda pod: pod.name)

    def secrets(self) -> dict[str, dict[str, str]]:
        """The contents of all Secrets, but for those that Helm keeps its releases in."""
        listed = self.core.list_namespaced_secret(self.name, _request_timeout=REQUEST_SECONDS)
        found: list[Any] = [each for each in listed.items if each.type != "helm.sh/release.v1"]
        return {
            secret.metadata.name: {
                key: base64.b64decode(value).decode() for key, value in (secret.data or {}).items()
            }
            for secret in found
        }

    def interact(self, pod: str, *command: str) -> Interaction:
        """Run a command in a pod that goes on until its input ends."""
        log = self._logs / f"{next(self._numbers)}-exec-{pod}.log"
        return Interaction((*self.prefix, "exec", "--stdin", pod, "--", *command), log=log)

    @contextmanager
    def forward(self, target: str, port: int) -> Iterator[PortForward]:
        """Open a port-forward to ``target`` for as long as the context lasts."""
        log = self._logs / f"{next(self._numbers)}-{target.replace('/', '-')}.log"
        with PortForward(target, port, kubectl=self.prefix, log=log) as forward:
            yield forward

    def wait_rolled_out(self, workload: str, *, timeout_seconds: float) -> None:
        """Wait until every replica of a workload is of its newest version and ready."""
        self.kubectl(
            "rollout",
            "status",
            workload,
            f"--timeout={timeout_seconds}s",
            timeout_seconds=timeout_seconds + 10,
        )

    def kill(self, pod: Pod) -> None:
        """End a pod without a warning, and wait until it is gone."""
        assert pod.node is not None
        for container in pod.containers:
            self.cluster.kill_container(container, node=pod.node)
        self.kubectl("delete", "pod", pod.name, "--grace-period=0", "--force")
        self.wait_gone(pod, timeout_seconds=60)

    def wait_gone(self, pod: Pod, *, timeout_seconds: float) -> None:
        """Wait until this very pod, not one of the same name, no longer exists."""
        selector = f"metadata.name={pod.name}"

        def uids() -> set[str]:
            listed = self.core.list_namespaced_pod(
                self.name, field_selector=selector, _request_timeout=REQUEST_SECONDS
            )
            return {Pod.of(each).uid for each in listed.items}

        eventually(
            uids,
            until=lambda seen: pod.uid not in seen,
            what=f"the end of pod {pod.name}",
            timeout_seconds=timeout_seconds,
        )
