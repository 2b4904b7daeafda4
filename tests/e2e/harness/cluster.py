"""kind clusters, each with a kubeconfig of its own: the person's stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubernetes import client, config
from tests.e2e.harness.programs import ROOT, CommandFailed, run

KIND_CONFIG: Final = ROOT / "k8s" / "kind-config.yaml"
CREATE_SECONDS: Final = 600
LOAD_SECONDS: Final = 600
BUILD_SECONDS: Final = 900


@dataclass(frozen=True)
class Cluster:
    """A running kind cluster."""

    name: str
    kubeconfig: Path

    @property
    def kubectl(self) -> tuple[str, ...]:
        """kubectl with what it needs to find this cluster."""
        return ("kubectl", "--kubeconfig", str(self.kubeconfig))

    def api(self) -> client.ApiClient:
        """A connection for the classes of ``kubernetes.client``; to be closed by the caller."""
        connection: client.ApiClient = config.new_client_from_config(  # type: ignore[no-untyped-call]
            config_file=str(self.kubeconfig)
        )
        return connection

    def load(self, images: Sequence[str]) -> None:
        """Copy images from the local engine to every node that runs pods of ours."""
        nodes = run("kind", "get", "nodes", "--name", self.name, timeout_seconds=60).split()
        workers = [node for node in nodes if "control-plane" not in node] or nodes
        options = ("--name", self.name, "--nodes", ",".join(workers))
        run("kind", "load", "docker-image", *options, *images, timeout_seconds=LOAD_SECONDS)

    def kill_container(self, container: str, *, node: str) -> None:
        """End a container's first process at once, as a crash or a lack of memory does.

        Deleting its pod would not do: however short the grace period, the kubelet asks first.
        """
        task = ("ctr", "--namespace", "k8s.io", "task", "kill", "--signal", "SIGKILL", container)
        run("docker", "exec", node, *task, timeout_seconds=60)


def create(name: str, *, kubeconfig: Path) -> Cluster:
    """Make a cluster as the project's configuration says and wait for its nodes.

    Raises:
        CommandFailed: kind could not; nothing is left of the attempt.
    """
    options = ("--name", name, "--kubeconfig", str(kubeconfig))
    try:
        run(
            "kind",
            "create",
            "cluster",
            *options,
            "--config",
            str(KIND_CONFIG),
            "--wait",
            "300s",
            timeout_seconds=CREATE_SECONDS,
        )
    except CommandFailed:
        delete(name, kubeconfig=kubeconfig)
        raise
    return Cluster(name, kubeconfig)


def attach(name: str, *, kubeconfig: Path) -> Cluster:
    """The cluster of this name that runs already.

    Raises:
        CommandFailed: There is none.
    """
    kubeconfig.write_text(run("kind", "get", "kubeconfig", "--name", name, timeout_seconds=60))
    return Cluster(name, kubeconfig)


def delete(name: str, *, kubeconfig: Path) -> None:
    """Remove a cluster and all that is in it; does nothing when there is none."""
    run(
        "kind",
        "delete",
        "cluster",
        "--name",
        name,
        "--kubeconfig",
        str(kubeconfig),
        timeout_seconds=120,
    )


def build(image: str, *, dockerfile: str) -> None:
    """Build an image from the repository as it stands."""
    run("docker", "build", "--file", dockerfile, "--tag", image, ".", timeout_seconds=BUILD_SECONDS)


def pull(image: str) -> None:
    """Fetch an official image, unless the local engine has it."""
    try:
        run("docker", "image", "inspect", "--format", "{{.Id}}", image, timeout_seconds=30)
    except CommandFailed:
        run("docker", "pull", image, timeout_seconds=BUILD_SECONDS)
