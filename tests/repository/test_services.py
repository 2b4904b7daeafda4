"""The services have one list of names; what cannot import it agrees with it."""

from __future__ import annotations

import re
import tomllib

from tests.e2e.harness.programs import ROOT

from devkit.services import SERVICES


def declared(file: str) -> set[str]:
    """The names in the ``SERVICES`` of a file that runs without the environment."""
    found = re.search(r"^SERVICES = [({](.*)[)}]$", (ROOT / file).read_text(), re.MULTILINE)
    assert found, file
    return set(re.findall(r'"(\w+)"', found[1]))


def test_what_runs_without_the_environment_names_the_same_services() -> None:
    assert declared("k8s/cluster.py") == declared("Tiltfile") == set(SERVICES)


def test_every_application_is_a_service() -> None:
    assert {path.parent.name for path in ROOT.glob("apps/*/pyproject.toml")} == set(SERVICES)


def test_every_service_is_a_member_of_the_workspace() -> None:
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]
    assert {f"apps/{name}" for name in SERVICES} <= set(workspace["members"])
