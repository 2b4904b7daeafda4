"""Renders the charts with the helm binary, each combination once."""

from __future__ import annotations

import functools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.e2e.harness.programs import ROOT, CommandFailed, run

CHARTS = ("redis", "postgres", "order", "invoice", "shop", "observability")
RELEASE, NAMESPACE = "rel", "somewhere"
HELM_SECONDS = 60

Manifest = dict[str, Any]
Values = dict[str, Any]


class Refused(Exception):
    """Helm did not render; the message is what it said."""


@dataclass(frozen=True)
class Charts:
    """A directory of charts whose dependencies are packed."""

    directory: Path

    @classmethod
    def copy_to(cls, directory: Path, source: Path = ROOT / "charts") -> Charts:
        """Copy the charts and pack their dependencies there: the working tree stays as it is."""
        ignored = shutil.ignore_patterns("*.tgz", "Chart.lock")
        shutil.copytree(source, directory, dirs_exist_ok=True, ignore=ignored)
        charts = cls(directory)
        charts.pack()
        return charts

    def pack(self) -> None:
        """Put into every chart the ones it depends on, the inner ones first."""
        for chart in CHARTS:
            helm("dependency", "update", "--skip-refresh", str(self.directory / chart))

    def render(
        self, chart: str, values: Values | None = None, *, file: str = "", release: str = RELEASE
    ) -> list[Manifest]:
        """The manifests of a release; ``file`` is one of the chart's documented values files."""
        text = self.text(chart, json.dumps(values or {}), file, release)
        return [manifest for manifest in load_all(text) if manifest]

    @functools.cache  # noqa: B019  (one object for the whole session)
    def text(self, chart: str, values: str = "{}", file: str = "", release: str = RELEASE) -> str:
        """What Helm prints for these values, given as JSON."""
        path = self.directory / chart
        files = [f"--values={path / file}"] if file else []
        command = ["template", release, str(path), f"--namespace={NAMESPACE}", *files]
        return helm(*command, "--kube-version=1.34.0", "--values=-", stdin=values)


def load_all(text: str) -> list[Manifest]:
    """The documents of a stream, by the fast parser where it is there."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return list(yaml.load_all(text, Loader=loader))


def helm(*arguments: str, stdin: str = "") -> str:
    """Run helm; raise what it said when it fails."""
    try:
        return run("helm", *arguments, timeout_seconds=HELM_SECONDS, stdin=stdin)
    except CommandFailed as error:
        raise Refused(error.output) from error


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """The manifests of these kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The manifest with this kind and name."""
    found = [each for each in of_kind(manifests, kind) if each["metadata"]["name"] == name]
    assert len(found) == 1, [each["metadata"]["name"] for each in of_kind(manifests, kind)]
    return found[0]


def pod_template(manifest: Manifest) -> Manifest | None:
    """The pod a manifest is or makes, with its labels; None for anything else."""
    if manifest["kind"] == "Pod":
        return manifest
    template: Manifest | None = manifest.get("spec", {}).get("template")
    return template


def pods(manifests: list[Manifest]) -> list[tuple[str, Manifest]]:
    """Every pod and pod template, named by its owner."""
    found = [(f"{m['kind']}/{m['metadata']['name']}", pod_template(m)) for m in manifests]
    return [(name, template) for name, template in found if template is not None]


def merged(*layers: Values) -> Values:
    """Values laid over each other as Helm does it."""
    result: Values = {}
    for layer in layers:
        for key, value in layer.items():
            below = result.get(key)
            if isinstance(value, dict) and isinstance(below, dict):
                result[key] = merged(below, value)
            else:
                result[key] = value
    return result
