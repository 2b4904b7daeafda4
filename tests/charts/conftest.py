"""The charts, packed once for the session, and the combinations the tests go through."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.charts.combinations import ALL, Combination
from tests.charts.conforming import write_schemas
from tests.charts.rendering import LONG, Charts, Manifest


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Where renderings are kept: one directory for all workers of this session."""
    own = tmp_path_factory.getbasetemp()
    directory = (own if worker_id == "master" else own.parent) / "rendered"
    for name in ("charts", "newer"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def charts(tmp_path_factory: pytest.TempPathFactory, rendered: Path) -> Charts:
    if shutil.which("helm") is None:
        pytest.skip("the helm binary is not on the PATH")
    return Charts.copy_to(tmp_path_factory.mktemp("charts"), kept=rendered / "charts")


@pytest.fixture(scope="session")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The schemas by which kubeconform judges."""
    if shutil.which("kubeconform") is None:
        pytest.skip("the kubeconform binary is not on the PATH")
    directory = tmp_path_factory.mktemp("schemas")
    write_schemas(directory)
    return directory


@pytest.fixture(params=ALL, ids=str)
def combination(request: pytest.FixtureRequest) -> Combination:
    chosen: Combination = request.param
    return chosen


@pytest.fixture
def manifests(charts: Charts, combination: Combination) -> list[Manifest]:
    """The combination under the longest name that a release may have."""
    return charts.render(combination.chart, combination.values, file=combination.file, release=LONG)
