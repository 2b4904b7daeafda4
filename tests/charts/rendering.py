"""Renders the charts with the helm binary, each combination once."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.e2e.harness.programs import ROOT, CommandFailed, run

CHARTS = ("redis", "postgres", "order", "invoice", "shop", "observability")
RELEASE, NAMESPACE = "rel", "somewhere"
HELM_SECONDS = 60
# The longest name that Helm takes, and one that differs where a name is cut off.
LONG, ANOTHER = "r" * 53, "r" * 52 + "s"

Manifest = dict[str, Any]
Values = dict[str, Any]


class Refused(Exception):
    """Helm did not render; the message is what it said."""


@dataclass(frozen=True)
class Charts:
    """A directory of charts whose dependencies are packed."""

    directory: Path
    kept: Path | None = None

    @classmethod
    def copy_to(
        cls, directory: Path, source: Path = ROOT / "charts", *, kept: Path | None = None
    ) -> Charts:
        """Copy the charts and pack their dependencies there: the working tree stays as it is.

        ``kept`` is a directory that the workers of one session share: what one of them has
        rendered of these charts, the others read.
        """
        ignored = shutil.ignore_patterns("*.tgz", "Chart.lock")
        shutil.copytree(source, directory, dirs_exist_ok=True, ignore=ignored)
        charts = cls(directory, kept)
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

    def notes(self, chart: str, values: Values | None = None, *, file: str = "") -> str:
        """What Helm tells the person who installs it; here in a manifest, to be rendered."""
        path = self.directory.with_name(f"{self.directory.name}-notes") / chart
        if not path.exists():
            shutil.copytree(self.directory / chart, path)
            (path / "notes").write_text((path / "templates/NOTES.txt").read_text())
            held = 'notes: {{ tpl (.Files.Get "notes") . | toJson }}\n'
            (path / "templates/notes.yaml").write_text(held)
        files = [f"--values={path / file}"] if file else []
        command = ["template", RELEASE, str(path), f"--namespace={NAMESPACE}", *files]
        text = helm(
            *command,
            "--show-only=templates/notes.yaml",
            "--values=-",
            stdin=json.dumps(values or {}),
        )
        notes: str = yaml.safe_load(text)["notes"]
        return notes

    @functools.cache  # noqa: B019  (one object for the whole session)
    def text(self, chart: str, values: str = "{}", file: str = "", release: str = RELEASE) -> str:
        """What Helm prints for these values, given as JSON."""
        if self.kept is None:
            return self._template(chart, values, file, release)
        asked = json.dumps([chart, values, file, release])
        path = self.kept / f"{hashlib.sha256(asked.encode()).hexdigest()}.yaml"
        if not path.exists():
            unfinished = path.with_suffix(f".{os.getpid()}")
            unfinished.write_text(self._template(chart, values, file, release))
            unfinished.replace(path)
        return path.read_text()

    def _template(self, chart: str, values: str, file: str, release: str) -> str:
        path = self.directory / chart
        files = [f"--values={path / file}"] if file else []
        command = ["template", release, str(path), f"--namespace={NAMESPACE}", *files]
        return helm(*command, "--kube-version=1.34.0", "--values=-", stdin=values)


def load_all(text: str) -> list[Manifest]:
    """The documents of a stream, by the fast parser where it is there."""
    return list(yaml.load_all(text, Loader=Strict))


class Strict(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a key that is there twice: Kubernetes does, or takes the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Manifest:
        """A mapping whose keys differ."""
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise ValueError(f"twice in one mapping: {twice}, line {node.start_mark.line}")
        made: Manifest = super().construct_mapping(node, deep)
        return made


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
    inside = manifest.get("spec", {}).get("jobTemplate", manifest).get("spec", {})
    template: Manifest | None = inside.get("template")
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
