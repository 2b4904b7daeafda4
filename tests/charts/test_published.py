"""What a release makes of the charts: they say where they come from and find their images."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.charts.rendering import helm
from tests.e2e.harness.programs import ROOT
from tools.published_charts import CHARTS, ICON, Unpublishable, pack

HOME, REGISTRY = "https://git.example.com/us/shop", "registry.example.com/us"
VERSION = yaml.safe_load((ROOT / "charts/shop/Chart.yaml").read_text())["version"]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    if shutil.which("helm") is None:
        pytest.skip("the helm binary is not on the PATH")
    into = tmp_path_factory.mktemp("packed")
    paths = pack(ROOT / "charts", home=HOME, registry=REGISTRY, version=VERSION, into=into)
    return dict(zip(CHARTS, paths, strict=True))


def described(path: Path) -> dict[str, Any]:
    with tarfile.open(path) as packed:
        file = packed.extractfile(f"{path.name.removesuffix(f'-{VERSION}.tgz')}/Chart.yaml")
        assert file is not None
        found: dict[str, Any] = yaml.safe_load(file)
    return found


def images(path: Path) -> set[str]:
    return set(re.findall(r'image: "(.+)"', helm("template", "any", str(path))))


@pytest.mark.parametrize("chart", CHARTS)
def test_a_published_chart_says_where_it_comes_from_and_what_it_installs(
    packed: dict[str, Path], chart: str
) -> None:
    table = described(packed[chart])
    assert table["home"] == HOME
    assert table["sources"] == [HOME]
    assert table["icon"] == f"{HOME}/raw/{VERSION}/{ICON}"
    assert (ROOT / ICON).is_file()
    assert table["kubeVersion"]
    assert table["keywords"]
    annotations = table["annotations"]
    assert annotations["artifacthub.io/license"] == "Apache-2.0"
    assert annotations["artifacthub.io/category"]
    assert yaml.safe_load(annotations["artifacthub.io/images"])


def test_a_linter_of_charts_has_nothing_to_say_to_any_of_them(packed: dict[str, Path]) -> None:
    said = helm("lint", "--strict", *(str(path) for path in packed.values()))
    assert f"{len(CHARTS)} chart(s) linted, 0 chart(s) failed" in said
    assert "[INFO]" not in said


def test_the_published_shop_needs_no_value_to_find_its_images(packed: dict[str, Path]) -> None:
    own = {f"{REGISTRY}/shop/{service}:{VERSION}" for service in ("order", "invoice")}
    rendered = images(packed["shop"])
    assert rendered == own | {"postgres:18", "redis:8"}
    listed = yaml.safe_load(described(packed["shop"])["annotations"]["artifacthub.io/images"])
    assert {each["image"] for each in listed} == rendered
    mirrored = helm(
        "template", "any", str(packed["shop"]), "--set=global.imageRegistry=mirror.example.com"
    )
    assert REGISTRY not in mirrored


def test_charts_of_another_version_are_not_published(tmp_path: Path) -> None:
    with pytest.raises(Unpublishable, match=r"Chart\.yaml: its version is not 9\.9\.9"):
        pack(ROOT / "charts", home=HOME, registry=REGISTRY, version="9.9.9", into=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_chart_without_a_place_for_the_registry_is_not_published(tmp_path: Path) -> None:
    copy = tmp_path / "charts"
    shutil.copytree(ROOT / "charts", copy)
    values = copy / "order/values.yaml"
    values.write_text(values.read_text().replace('registry: ""', 'registry: "x"', 1))
    with pytest.raises(Unpublishable, match="0 places for the registry"):
        pack(copy, home=HOME, registry=REGISTRY, version=VERSION, into=tmp_path / "packed")


def test_the_program_needs_nothing_but_python_and_says_what_is_wrong(tmp_path: Path) -> None:
    """The workflow that runs it has no environment."""
    program = [sys.executable, "-I", "-S", "-c"]
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tools import published_charts"
    options = ["--home", HOME, "--registry", REGISTRY, "--version", "9.9.9"]
    done = subprocess.run(
        [
            *program,
            f"{start}; sys.exit(published_charts.main())",
            *options,
            "--into",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert "its version is not 9.9.9" in done.stderr
