"""What is installed is what the lists name: no release of tomorrow can change it or stop it."""

from __future__ import annotations

import re

import pytest
from tests.e2e.harness.programs import ROOT

from devkit.services import SERVICES

RECIPES = ("Makefile", *(f"apps/{name}/Dockerfile" for name in SERVICES))
LISTS = (
    "requirements/build.txt",
    "requirements/dev.txt",
    *(f"apps/{name}/requirements.txt" for name in SERVICES),
)
# `make envs` tries old pips, which it takes from the registry by their exact version.
ASKED_FOR = "pip==$(PIP_VERSION)"


def commands(text: str) -> list[str]:
    """Every command of a recipe that installs something, each on one line."""
    variables = dict(re.findall(r"^([A-Z]+) := (.*)$", text, re.MULTILINE))
    for name, value in variables.items():
        text = text.replace(f"$({name})", value)
    lines = text.replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r"&&|\|\||;", line)]
    installs = re.compile(r"\b(pip|uv)\b.* (install|sync|wheel) -")
    return [part for part in parts if installs.search(part) and "echo" not in part]


@pytest.mark.parametrize("recipe", RECIPES)
def test_nothing_that_is_installed_is_resolved(recipe: str) -> None:
    found = [one for one in commands((ROOT / recipe).read_text()) if ASKED_FOR not in one]
    assert len(found) >= 3
    for command in found:
        assert "--no-deps" in command or " sync " in command, command


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_comes_from_a_list_is_checked_by_hash_and_never_built(recipe: str) -> None:
    found = [one for one in commands((ROOT / recipe).read_text()) if ".txt" in one]
    assert len(found) >= 2
    for command in found:
        assert "--require-hashes" in command, command
        assert "--only-binary :all:" in command, command


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_member_is_built_by_the_pinned_backend_without_a_registry(recipe: str) -> None:
    text = (ROOT / recipe).read_text()
    builds = [one for one in commands(text) if " wheel " in one or "=-e " in one]
    assert builds
    for command in builds:
        assert "--no-build-isolation" in command, command


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_was_installed_is_checked_for_what_is_missing(recipe: str) -> None:
    assert "pip check" in (ROOT / recipe).read_text()


@pytest.mark.parametrize("name", LISTS)
def test_every_pin_is_exact_and_has_hashes(name: str) -> None:
    entries = (ROOT / name).read_text().replace("\\\n", " ").splitlines()
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==\S+ ", entry), entry
        assert "--hash=sha256:" in entry, entry
