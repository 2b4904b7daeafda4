"""Schema and README of every chart follow from its values; every value says what it is for."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest
from tests.charts.rendering import CHARTS
from tests.e2e.harness.programs import ROOT

SCRIPT = ROOT / "k8s" / "chartdocs.py"


@pytest.fixture(scope="module")
def chartdocs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chartdocs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["chartdocs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("chart", CHARTS)
def test_schema_and_readme_are_what_the_values_make_them(chart: str, chartdocs: ModuleType) -> None:
    for path, wanted in chartdocs.documents(ROOT / "charts" / chart).items():
        assert path.read_text() == wanted, f"{path} is stale: run `make chart-docs`"


@pytest.mark.parametrize("chart", CHARTS)
def test_every_value_has_a_comment(chart: str, chartdocs: ModuleType) -> None:
    def bare(values: list[object], prefix: str = "") -> list[str]:
        found: list[str] = []
        for value in values:
            name = f"{prefix}{value.name}"  # type: ignore[attr-defined]
            inside = value.inside  # type: ignore[attr-defined]
            if not inside and not value.meaning:  # type: ignore[attr-defined]
                found.append(name)
            found += bare(inside, f"{name}.")
        return found

    assert bare(chartdocs.read_values(ROOT / "charts" / chart / "values.yaml")) == []
