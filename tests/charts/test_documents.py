"""Schema and README of every chart follow from its values; every value says what it is for."""

from __future__ import annotations

import re

import pytest
from tests.charts.rendering import CHARTS
from tests.e2e.harness.programs import ROOT
from tools import chartdocs
from tools.chartdocs import Value


@pytest.mark.parametrize("chart", CHARTS)
def test_schema_and_readme_are_what_the_values_make_them(chart: str) -> None:
    for path, wanted in chartdocs.documents(ROOT / "charts" / chart).items():
        assert path.read_text() == wanted, f"{path} is stale: run `make generated`"


@pytest.mark.parametrize("chart", CHARTS)
def test_every_value_has_a_comment(chart: str) -> None:
    def bare(values: list[Value], prefix: str = "") -> list[str]:
        found: list[str] = []
        for value in values:
            name = f"{prefix}{value.name}"
            inside = value.inside
            if not inside and not value.meaning:
                found.append(name)
            found += bare(inside, f"{name}.")
        return found

    assert bare(chartdocs.read_values(ROOT / "charts" / chart / "values.yaml")) == []


COMMAND = re.compile(r"^(?:\$ )?(kubectl|helm) .*(?:\\\n.*)*", re.MULTILINE)
OF_NO_NAMESPACE = (
    "kubectl apply -f k8s/",
    "kubectl config ",
    "kubectl delete namespace ",
    "kubectl taint node ",
    "helm template ",
)


def test_every_command_of_the_documents_names_its_namespace() -> None:
    """Without it the command goes to the default namespace, where the shop is not."""
    found = [
        (path.name, command.group())
        for path in (ROOT / "docs").rglob("*.md")
        for command in COMMAND.finditer(path.read_text())
    ]
    bare = [
        each
        for each in found
        if not re.search(r" (--namespace|-n) ", each[1]) and not each[1].startswith(OF_NO_NAMESPACE)
    ]
    assert len(found) > 50
    assert bare == []
