"""No test is lost: each belongs to one verb, and a change has to pass every verb."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.harness.programs import ROOT
from tests.groups import COLLECTED, GROUPS

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
REST = "test"


@dataclass(frozen=True)
class Verb:
    """What one verb runs: the tests that an expression over markers chooses, below some folders."""

    name: str
    expression: str
    folders: tuple[Path, ...]

    def runs(self, path: Path, markers: set[str]) -> bool:
        below = any(path.is_relative_to(folder) for folder in self.folders)
        names = defaultdict(bool, dict.fromkeys(markers, True))
        return below and bool(eval(self.expression, {"__builtins__": {}}, names))


def read_verbs() -> dict[str, Verb]:
    """The verbs that run tests; `cov` runs those of `test` once more, and counts lines."""
    text = (ROOT / "Makefile").read_text()
    (alone,) = re.findall(r'^ALONE := "(.*)"$', text, re.MULTILINE)
    text = text.replace("\\\n", "")
    recipes = re.findall(r"^([\w-]+):[^\n]*\n((?:\t.*\n)+)", text, re.MULTILINE)
    found = {}
    for name, recipe in recipes:
        ran = re.search(r" -m pytest (?:-n \S+ )?-m (\S+) (.*)\$\(ARGS\)", recipe)
        if ran and name != "cov":
            expression = ran[1].replace("$(ALONE)", alone)
            folders = ran[2].split() or SETTINGS["testpaths"]
            found[name] = Verb(name, expression, tuple(ROOT / folder for folder in folders))
    return found


VERBS = read_verbs()
APART = {verb.expression: verb for verb in VERBS.values() if verb.name != REST}


def marked(group: str) -> set[Path]:
    """The files that may give this marker to a test: they name it, or are listed as a whole."""
    named = {
        path
        for folder in SETTINGS["testpaths"]
        for path in (ROOT / folder).rglob("*.py")
        if re.search(rf"\bmark\.{group}\b", path.read_text())
    }
    return named | {ROOT / path for path in GROUPS.get(group, ())}


def test_a_group_is_a_marker_with_a_verb_and_the_rest_is_what_no_group_has() -> None:
    declared = {line.split(":")[0] for line in SETTINGS["markers"]} - {"slow"}
    assert set(APART) == declared
    assert set(GROUPS) <= declared
    rest = VERBS[REST]
    anywhere = rest.folders[0]
    assert rest.folders == tuple(ROOT / folder for folder in SETTINGS["testpaths"])
    assert rest.runs(anywhere, set())
    assert [group for group in declared if rest.runs(anywhere, {group})] == []


@pytest.mark.parametrize("group", sorted(APART))
def test_a_verb_looks_wherever_its_marker_is_given(group: str) -> None:
    files = marked(group)
    assert files
    assert [path for path in files if not APART[group].runs(path, {group})] == []


@pytest.mark.parametrize("path", [path for paths in GROUPS.values() for path in paths])
def test_what_is_listed_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_test_that_was_collected_belongs_to_exactly_one_verb(
    request: pytest.FixtureRequest,
) -> None:
    lost = {}
    for item in request.config.stash[COLLECTED]:
        markers = {marker.name for marker in item.iter_markers()}
        verbs = [verb.name for verb in VERBS.values() if verb.runs(item.path, markers)]
        if len(verbs) != 1:
            lost[item.nodeid] = verbs
    assert lost == {}


@pytest.mark.parametrize("name", sorted(VERBS))
def test_a_change_has_to_pass_every_verb_and_people_can_read_of_it(name: str) -> None:
    assert re.search(rf'^ *run "make {name}" \d+ .*make {name}$', script(), re.MULTILINE)
    for page in ("README.md", "CONTRIBUTING.md"):
        assert re.search(rf"^make {name} +#", (ROOT / page).read_text(), re.MULTILINE), page


def test_only_what_needs_a_cluster_is_left_out_where_there_is_none() -> None:
    conditional = set(re.findall(r'^ +run "make ([\w-]+)"', script(), re.MULTILINE))
    assert conditional & set(VERBS) == {"e2e", "test-observed"}


def script() -> str:
    return (ROOT / ".ci/run").read_text()
