"""What Tilt does with a Tiltfile, as far as it can go wrong without a complaint.

Each rule returns what breaks it. They were found with the program itself, which is not at hand
where these tests run.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any, Final

import yaml
from tests.charts.rendering import Charts, Manifest, load_all, of_kind, pods
from tests.tilt.stand_ins import ROOT, Call, Tilt

IGNORE_FILE: Final = ROOT / ".tiltignore"
# internal/tiltfile/helm.go: the only thing by which Tilt knows a test of a chart.
_TEST: Final = re.compile(r"^# Source: .*/tests/", re.MULTILINE)
# Helm makes it, and removes it when it is done; its end is the number of the process.
_WHILE_PACKING: Final = "charts/order/tmpcharts-4711/redis-0.1.0.tgz"
# Words that every service logs: the names of databases, of roles, of what they are about.
_LOGGED: Final = ("order", "orders", "invoice", "invoices", "default")


def releases(tilt: Tilt) -> dict[str, Call]:
    """The charts that the Tiltfile installs, by the name of the release."""
    given = [call["first"] for call in tilt.calls["k8s_yaml"]]
    return {each["name"]: each for each in given if isinstance(each, dict)}


def values_of(release: Call) -> dict[str, Any]:
    """The values that `set` gives, as Helm reads them."""
    values: dict[str, Any] = {}
    for setting in release.get("set", []):
        path, text = setting.split("=", 1)
        inside = values
        *sections, key = path.split(".")
        for section in sections:
            inside = inside.setdefault(section, {})
        inside[key] = yaml.safe_load(text)
    return values


def installed(tilt: Tilt, charts: Charts) -> list[Manifest]:
    """What Tilt takes of what Helm prints: all but what comes from a folder ``tests``."""
    found = []
    for name, release in releases(tilt).items():
        file, chart = Path(release["values"][0]).name, Path(release["chart"]).name
        text = charts.text(chart, json.dumps(values_of(release)), file, name)
        documents = [each for each in text.split("---\n") if not _TEST.search(each)]
        found += [manifest for manifest in load_all("---\n".join(documents)) if manifest]
    return found


def started_with_the_shop(tilt: Tilt, charts: Charts) -> list[str]:
    """The Pods of ``helm test`` that Tilt takes for resources: it knows no hooks."""
    return [
        manifest["metadata"]["name"]
        for manifest in installed(tilt, charts)
        if "helm.sh/hook" in manifest["metadata"].get("annotations", {})
    ]


def written_and_watched(tilt: Tilt, written: Iterable[str], ignore: str) -> list[str]:
    """The files that an evaluation writes and that start the next one."""
    watched = [call["first"] for call in tilt.calls["watch_file"]]
    watched += [release["chart"] for release in releases(tilt).values()]
    return [
        path
        for path in (*written, _WHILE_PACKING)
        if any(PurePath(path).is_relative_to(folder) for folder in watched)
        and not is_ignored(path, ignore)
    ]


def is_ignored(path: str, ignore: str) -> bool:
    """Whether a line of an ignore file matches the path or a folder that it is in."""
    patterns = [line for line in ignore.splitlines() if line and not line.startswith("#")]
    return any(
        len(each.parts) == len(PurePath(pattern).parts) and each.match(pattern)
        for each in (PurePath(path), *PurePath(path).parents)
        for pattern in patterns
    )


def built_for_a_job(tilt: Tilt, charts: Charts) -> Iterator[str]:
    """The Jobs for which each saved source builds an image that the services take as a copy."""
    updated = {each["first"] for each in tilt.calls["docker_build"] if each.get("live_update")}
    for name, job in pods(of_kind(installed(tilt, charts), "Job")):
        images = {container["image"].split(":")[0] for container in job["spec"]["containers"]}
        resource = tilt.named("k8s_resource", tilt.resource_of(name.removeprefix("Job/")))
        if images & updated and resource.get("trigger_mode") != "manual":
            yield name


def scrubbed_from_logs(tilt: Tilt, charts: Charts) -> list[str]:
    """The ordinary words that Tilt makes unreadable in the logs, as a Secret has them."""
    if any(call.get("disable_scrub") for call in tilt.calls["secret_settings"]):
        return []
    secrets = of_kind(installed(tilt, charts), "Secret")
    encoded = {value for secret in secrets for value in secret.get("data", {}).values()}
    return sorted({base64.b64decode(value).decode() for value in encoded}.intersection(_LOGGED))
