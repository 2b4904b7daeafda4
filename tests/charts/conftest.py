"""The charts, packed once for the session, and the combinations the tests go through."""

from __future__ import annotations

import shutil

import pytest
from tests.charts.combinations import ALL, Combination
from tests.charts.rendering import Charts, Manifest


@pytest.fixture(scope="session")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Charts:
    if shutil.which("helm") is None:
        pytest.skip("the helm binary is not on the PATH")
    return Charts.copy_to(tmp_path_factory.mktemp("charts"))


@pytest.fixture(params=ALL, ids=str)
def combination(request: pytest.FixtureRequest) -> Combination:
    chosen: Combination = request.param
    return chosen


@pytest.fixture
def manifests(charts: Charts, combination: Combination) -> list[Manifest]:
    return charts.render(combination.chart, combination.values, file=combination.file)
