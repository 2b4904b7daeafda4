"""Pack the charts as a release publishes them: they say where they and their images are.

The charts in the repository know neither the address of the repository nor that of a registry. A
release does: it gives each chart its `home`, `sources` and `icon`, the list of its images for
Artifact Hub, and the services' charts the registry that their images were pushed to, so that
`helm install NAME oci://REGISTRY/charts/shop` needs no values. Standard library only, since the
workflow that runs it has no environment: ``python3 -m tools.published_charts --help``.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
# The inner ones first: each is packed into those after it.
CHARTS: Final = ("redis", "postgres", "order", "invoice", "shop", "observability")
SERVICES: Final = ("order", "invoice")
ICON: Final = "docs/images/icon.svg"
HELM_SECONDS: Final = 120
_OWN_REGISTRY: Final = re.compile(r'^(image:\n(?: +#.*\n)* +registry: )""$', re.MULTILINE)
_IMAGE: Final = re.compile(r'^ *(?:- )?image: "?([^"\s]+)"?$', re.MULTILINE)


class Unpublishable(Exception):
    """The charts are not what the release says that they are."""


def pack(charts: Path, *, home: str, registry: str, version: str, into: Path) -> list[Path]:
    """Pack every chart of a folder, changed as a release needs it; the folder stays as it is.

    Args:
        charts: the folder with a chart in each folder.
        home: address of the repository, where ``/raw/VERSION/PATH`` gives a file.
        registry: where the services' images are, without a scheme.
        version: what is released; the charts must say the same.
        into: where the packed charts go.

    Raises:
        Unpublishable: a chart has another version, no place for the registry, or Helm failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "charts"
        shutil.copytree(charts, copy, ignore=shutil.ignore_patterns("*.tgz", "Chart.lock"))
        for service in SERVICES:
            name_registry(copy / service / "values.yaml", registry)
        for chart in CHARTS:
            helm("dependency", "update", "--skip-refresh", str(copy / chart))
            describe(copy / chart, home=home, version=version)
        into.mkdir(parents=True, exist_ok=True)
        helm("package", *(str(copy / chart) for chart in CHARTS), "--destination", str(into))
    return [into / f"{chart}-{version}.tgz" for chart in CHARTS]


def name_registry(values: Path, registry: str) -> None:
    """Make the registry the default of the chart's own image."""
    text, found = _OWN_REGISTRY.subn(rf'\g<1>"{registry}"', values.read_text())
    if found != 1:
        raise Unpublishable(f"{values}: {found} places for the registry of the image, not one")
    values.write_text(text)


def describe(chart: Path, *, home: str, version: str) -> None:
    """Say in Chart.yaml where the chart comes from and which images it installs."""
    path = chart / "Chart.yaml"
    text = path.read_text()
    if f"\nversion: {version}\n" not in text:
        raise Unpublishable(f"{path}: its version is not {version}")
    images = sorted(set(_IMAGE.findall(helm("template", "any", str(chart)))))
    listed = "".join(f"    - name: {name_of(image)}\n      image: {image}\n" for image in images)
    origin = f"home: {home}\nsources: [{home}]\nicon: {home}/raw/{version}/{ICON}\n"
    head, annotations, rest = text.partition("annotations:\n")
    if not annotations:
        raise Unpublishable(f"{path}: no annotations to add to")
    path.write_text(f"{head}{origin}{annotations}  artifacthub.io/images: |\n{listed}{rest}")


def name_of(image: str) -> str:
    """The last part of an image's name, without tag and digest."""
    return image.rsplit("/", 1)[-1].partition("@")[0].partition(":")[0]


def helm(*arguments: str) -> str:
    """Run helm and return what it printed."""
    try:
        done = subprocess.run(
            ["helm", *arguments], capture_output=True, text=True, timeout=HELM_SECONDS, check=True
        )
    except subprocess.CalledProcessError as error:
        raise Unpublishable(f"helm {arguments[0]}: {error.stderr.strip()}") from error
    return done.stdout


def main() -> int:
    """Pack them and print a path a line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--home", required=True, help="address of the repository")
    parser.add_argument("--registry", required=True, help="where the services' images are")
    parser.add_argument("--version", required=True, help="the version that is released")
    parser.add_argument("--into", type=Path, required=True, help="where the packed charts go")
    given = parser.parse_args()
    try:
        packed = pack(
            ROOT / "charts",
            home=given.home.rstrip("/"),
            registry=given.registry.rstrip("/"),
            version=given.version,
            into=given.into,
        )
    except Unpublishable as error:
        print(error, file=sys.stderr)
        return 1
    print(*packed, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
