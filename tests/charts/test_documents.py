"""Schema and README of every chart follow from its values; every value says what it is for."""

from __future__ import annotations

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
