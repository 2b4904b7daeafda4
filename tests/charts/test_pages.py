"""The values that the pages in docs/ tell people to use can be used as they stand there."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import pytest
from tests.charts.rendering import NAMESPACE, Charts, Values, helm, load_all, of_kind
from tests.e2e.harness.programs import ROOT

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
