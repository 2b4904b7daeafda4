"""The values that the pages in docs/ tell people to use can be used as they stand there."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass

import pytest
from tests.charts.network import Network
from tests.charts.rendering import (
    NAMESPACE,
    Charts,
    Manifest,
    Refused,
    Values,
    helm,
    load_all,
    of_kind,
    pods,
)
from tests.e2e.harness.programs import ROOT

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTIONS = re.compile(r"`(--set [^`]+)`")
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Values in a page, and the heading that they stand under."""

    page: str
    heading: str
    text: str

    @property
    def values(self) -> Values:
        (values,) = load_all(self.text)
        return values

    def __str__(self) -> str:
        return f"{self.page}: {self.heading}"


def blocks() -> list[Block]:
    found = []
    for path in sorted((ROOT / "docs").glob("*.md")):
        page = path.read_text()
        for block in BLOCK.finditer(page):
            heading = re.findall(r"^#+ (.*)$", page[: block.start()], re.MULTILINE)[-1]
            found.append(Block(path.name, heading, block[1]))
    return found


BLOCKS = blocks()


def test_the_pages_have_values() -> None:
    assert {block.page for block in BLOCKS} >= {"growing.md", "kubernetes.md", "observability.md"}


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_the_values_of_a_page_render(charts: Charts, block: Block) -> None:
    rendered = charts.render("shop", block.values)
    for wanted in block.values.get("order", {}).get("extraObjects", []):
        assert of_kind(rendered, wanted["kind"])


@pytest.mark.parametrize("chosen", ["Argo CD and Flux", "values-prod.yaml"])
def test_what_is_rendered_twice_without_a_cluster_is_the_same_and_holds_no_secret(
    charts: Charts, chosen: str
) -> None:
    given = {block.heading: block.values for block in BLOCKS}.get(chosen, {})
    chart = charts.directory / "shop"
    file = [] if given else [f"--values={chart / chosen}"]
    command = ["template", "shop", str(chart), f"--namespace={NAMESPACE}", *file, "--skip-tests"]
    first, second = (
        helm(*command, "--kube-version=1.34.0", "--values=-", stdin=json.dumps(given))
        for _ in range(2)
    )
    assert first == second
    assert not of_kind([each for each in load_all(first) if each], "Secret")


def helm_commands() -> list[list[str]]:
    """Every command of the pages that gives one of the charts to Helm, as a shell reads it."""
    lines = [
        line
        for path in sorted((ROOT / "docs").rglob("*.md"))
        for language, block in FENCED.findall(path.read_text())
        if language in ("", "sh")
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("helm ") and " charts/" in line
    ]
    return [shlex.split(line, comments=True) for line in lines]


def set_by(words: list[str]) -> list[str]:
    return [f"--set={word}" for at, word in enumerate(words) if words[at - 1] == "--set"]


def template(charts: Charts, chart: str, *options: str) -> list[Manifest]:
    """What a release ``shop`` would be."""
    command = ["template", "shop", str(charts.directory / chart), "--kube-version=1.34.0"]
    return [each for each in load_all(helm(*command, *options)) if each]


def test_the_commands_that_the_pages_show_are_taken_by_helm(charts: Charts) -> None:
    told = set()
    for command in helm_commands():
        named = [word.removeprefix("charts/") for word in command if word.startswith("charts/")]
        files = [f"--values={charts.directory / name}" for name in named if "." in name]
        (chart,) = (name for name in named if "." not in name)
        told.add((chart, *files, *set_by(command)))
    assert len(told) > 8
    for chart, *options in told:
        assert template(charts, chart, *options), options


def test_the_options_that_the_rows_show_are_taken_by_helm(charts: Charts) -> None:
    shown = OPTIONS.findall((ROOT / "docs/kubernetes.md").read_text())
    assert len(shown) > 5
    for text in shown:
        assert template(charts, "shop", *set_by(shlex.split(text))), text
    with pytest.raises(Refused, match="onlyInThePages"):
        template(charts, "shop", "--set=onlyInThePages=1")


def test_services_stay_away_while_a_major_version_of_postgres_changes(charts: Charts) -> None:
    """A restore refuses while anybody is connected, and a migration would write before it."""
    (first,) = (c for c in helm_commands() if "order.postgres.allowEmptyMajor=true" in c)
    found = template(charts, "shop", "--set=backup.enabled=true", *set_by(first))
    assert {each["spec"]["replicas"] for each in of_kind(found, "Deployment")} == {0}
    assert of_kind(found, "Job") == []
    images = {
        container["image"]
        for _, pod in pods(of_kind(found, "StatefulSet", "CronJob"))
        for container in pod["spec"]["containers"]
    }
    assert images == {"postgres:19", "redis:8"}


def test_a_pod_with_the_labels_that_the_page_names_reaches_a_database(charts: Charts) -> None:
    page = (ROOT / "docs/kubernetes.md").read_text()
    (row,) = re.findall(
        r"let a pod of yours reach a database \| give it the labels ([^|]+)\|", page
    )
    labels = dict(label.split(": ") for label in re.findall(r"`([^`]+)`", row))
    pod: Manifest = {"kind": "Pod", "metadata": {"name": "mine", "labels": labels}}
    pod["spec"] = {"containers": []}
    network = Network([*template(charts, "shop"), pod])
    for service in ("order", "invoice"):
        assert network.allows("Pod/mine", f"StatefulSet/shop-{service}-postgres", 5432)
    assert not network.allows("Pod/mine", "StatefulSet/shop-redis", 6379)
