"""The shop in a kind cluster, from nothing: ``make cluster``.

Makes the cluster unless it runs already, builds the images, loads them, installs the charts, waits
until every pod is ready, and prints how to reach it. Calling it again brings a running cluster up
to date.
"""  # noqa: INP001  (a script, not a module of a package)

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("order", "invoice")
NAMESPACE = "shop"
READY_SECONDS = 300
STEP_SECONDS = 900
PROGRAMS = ("docker", "kind", "kubectl", "helm")
OTLP = "http://observability-otlp:4317"
OBSERVE = {
    "no": [],
    "all": [],
    "jaeger": ["--set=tempo.enabled=false,jaeger.enabled=true,grafana.enabled=false"],
}


def say(text: str) -> None:
    """One line of progress, with the seconds since the start."""
    print(f"\033[1m[{time.monotonic() - STARTED:4.0f} s]\033[0m {text}", flush=True)  # noqa: T201


def run(*command: str, quiet: bool = False) -> None:
    """Run a command in the repository; what it prints is shown unless it succeeds quietly."""
    if not quiet:
        subprocess.run(command, cwd=ROOT, check=True, timeout=STEP_SECONDS)  # noqa: S603
        return
    ask(*command)


def ask(*command: str) -> str:
    """What a command prints; a failed one's error carries what it said."""
    done = subprocess.run(  # noqa: S603
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=STEP_SECONDS
    )
    return done.stdout.strip()


def build(service: str) -> str:
    """Build the image of a service; returns its reference, which names its content.

    A tag that follows the content restarts exactly the pods whose image has changed.
    """
    say(f"building the image of {service}")
    revision, created = ask("git", "log", "-1", "--format=%H %cI").split()
    arguments = [f"--build-arg=REVISION={revision}", f"--build-arg=CREATED={created}"]
    dockerfile = f"--file=apps/{service}/Dockerfile"
    digest = ask("docker", "build", "--quiet", dockerfile, *arguments, ".")
    reference = f"shop/{service}:dev-{digest.removeprefix('sha256:')[:12]}"
    run("docker", "tag", digest, reference)
    return reference


def create(name: str, node_image: str) -> None:
    """Make the cluster, unless it is there."""
    if name in ask("kind", "get", "clusters").splitlines():
        say(f"cluster {name} is there already")
        return
    say(f"making the cluster {name}")
    options = [f"--name={name}", f"--image={node_image}", "--config=k8s/kind-config.yaml"]
    run("kind", "create", "cluster", *options, "--wait=180s")


def load(name: str, images: list[str]) -> None:
    """Copy images to the nodes that run pods; what is not here, the nodes fetch themselves."""
    local = set(ask("docker", "image", "ls", "--format={{.Repository}}:{{.Tag}}").splitlines())
    here = [image for image in images if image in local]
    for image in images:
        say(f"loading {image}" if image in here else f"{image} is fetched by the nodes")
    nodes = ask("kind", "get", "nodes", f"--name={name}").splitlines()
    workers = [node for node in nodes if "worker" in node] or nodes
    target = [f"--name={name}", f"--nodes={','.join(workers)}"]
    if here:
        run("kind", "load", "docker-image", *here, *target, quiet=True)


class Releases:
    """The Helm releases in the cluster."""

    def __init__(self, cluster: str) -> None:
        """Address one cluster, whatever the current context is."""
        self._helm = ["helm", f"--kube-context=kind-{cluster}", f"--namespace={NAMESPACE}"]
        self._kubectl = ["kubectl", f"--context=kind-{cluster}", f"--namespace={NAMESPACE}"]

    def images(self, chart: str, *options: str) -> list[str]:
        """The images a release will run."""
        text = ask(*self._helm, "template", chart, f"charts/{chart}", *options)
        return sorted(set(re.findall(r'^\s*image: "(.+)"$', text, re.MULTILINE)))

    def install(self, chart: str, *options: str) -> None:
        """Install or upgrade a chart under its own name."""
        say(f"installing charts/{chart}")
        command = ["upgrade", "--install", chart, f"charts/{chart}", *options]
        run(*self._helm, *command, quiet=True)

    def wait(self) -> None:
        """Wait for every workload, telling how far each is; show what is wrong if one fails."""
        workloads = ask(*self._kubectl, "get", "statefulset,deployment", "--output=name")
        try:
            for workload in workloads.splitlines():
                run(*self._kubectl, "rollout", "status", workload, f"--timeout={READY_SECONDS}s")
        except subprocess.CalledProcessError:
            run(*self._kubectl, "get", "pods,events", "--sort-by=.metadata.creationTimestamp")
            raise

    def notes(self, chart: str) -> None:
        """Print how to reach what was installed."""
        run(*self._helm, "get", "notes", chart)


def main() -> int:
    """Do it all; 1 when a step failed, whose output has been shown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="shop", help="name of the kind cluster")
    parser.add_argument("--node-image", default="kindest/node:v1.34.0")
    parser.add_argument("--observe", choices=OBSERVE, default="no", help="what sees into it")
    options = parser.parse_args()
    try:
        bring_up(options.name, options.node_image, options.observe)
    except subprocess.CalledProcessError as error:
        say(f"failed: {' '.join(error.cmd)}\n{error.stdout or ''}{error.stderr or ''}")
    except subprocess.TimeoutExpired as error:
        say(f"not done in {error.timeout:.0f} s: {' '.join(error.cmd)}")
    except FileNotFoundError as error:
        say(f"{error.filename} is not on the PATH; needed are {', '.join(PROGRAMS)}")
    else:
        return 0
    return 1


def bring_up(name: str, node_image: str, observe: str) -> None:
    """Cluster, images, charts, in this order."""
    create(name, node_image)
    run("kubectl", f"--context=kind-{name}", "apply", "--filename=k8s/namespace.yaml", quiet=True)
    releases = Releases(name)
    built = {service: build(service) for service in SERVICES}
    tags = [f"--set={service}.image.tag={image.split(':')[1]}" for service, image in built.items()]
    shop = ["--values=charts/shop/values-dev.yaml", *tags]
    if observe != "no":
        shop += [f"--set={service}.tracing.endpoint={OTLP}" for service in SERVICES]
    charts = {"shop": shop}
    if observe != "no":
        values = "--values=charts/observability/values-dev.yaml"
        charts["observability"] = [values, *OBSERVE[observe]]
    for chart, options in charts.items():
        load(name, releases.images(chart, *options))
        releases.install(chart, *options)
    releases.wait()
    for chart in charts:
        releases.notes(chart)
    say("the shop is ready")
    if ask("kubectl", "config", "current-context") != f"kind-{name}":
        say(f"before the commands above: kubectl config use-context kind-{name}")


STARTED = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
