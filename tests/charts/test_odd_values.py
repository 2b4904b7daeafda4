"""Whatever a value is set to, Helm says in one line what is wrong, or what it renders is right.

Each key of each chart, sections too, is set to odd things. There are more of them than a test has
time for, and it says the same of the same tree: ODD_VALUES_SEED takes others, and
ODD_VALUES_EACH=100000 all of them.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
from pydantic import ValidationError
from tests.charts.conforming import assert_conforming
from tests.charts.rendering import CHARTS, Charts, Manifest, Refused, Values, load_all, of_kind
from tests.charts.test_settings import start
from tests.charts.test_values import defaults, nested, written_in_braces
from tests.e2e.harness.programs import ROOT

from devkit.services import SERVICES

EACH: Final = int(os.environ.get("ODD_VALUES_EACH", "10"))
SEED: Final = os.environ.get("ODD_VALUES_SEED", "1")
ODD: Final[tuple[Any, ...]] = (
    None,
    "",
    "x" * 300,
    -1,
    0,
    1.5,
    1e18,
    2**63,
    True,
    [],
    {},
    "1e3",
    "true",
    "null",
    "\n",
    "two\nlines",
    "a: b # c",
    """it's "quoted" """,
    "{{ .Release.Name }}",
    "ünïcødé ☃",
)
# What Go, Helm and YAML say when a template has met what it did not expect.
ACCIDENT: Final = re.compile(
    r"%!|nil pointer|<no value>|<nil>|YAML parse error|error converting|interface conversion|"
    r"wrong type for value|incompatible types|can't evaluate|panic|expected string; got"
)
# Helm's own word for a chart that is set to something else than a section, before anybody is asked.
HELMS_OWN: Final = re.compile(r"Error: type mismatch on [\w.]+: %!t\(\w+=[^)]*\)")
# Of a text that is right, only these show that something went wrong on the way.
SPOILT: Final = re.compile(r"%!\w|<no value>|<nil>")


def every_key(node: Values, prefix: str = "") -> Iterator[str]:
    """The keys of a values file, sections and what is in them."""
    for key, value in node.items():
        yield prefix + key
        if isinstance(value, dict) and not written_in_braces(key):
            yield from every_key(value, f"{prefix}{key}.")


def rules_of(schema: dict[str, Any], path: str) -> dict[str, Any]:
    """The part of a chart's schema that is about one key."""
    for key in path.split("."):
        schema = schema["properties"][key]
    return schema


def cases(chart: str) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """What the chart's schema may take, and what it refuses; Helm asks the inner charts' too."""
    schema = json.loads((ROOT / "charts" / chart / "values.schema.json").read_text())
    taken: list[tuple[str, Any]] = []
    refused: list[tuple[str, Any]] = []
    for path in every_key(defaults(chart)):
        judge = jsonschema.Draft7Validator(rules_of(schema, path))
        for value in ODD:
            # Helm takes a key away that is null, and then a default of an inner chart may count.
            valid = value is None or judge.is_valid(value)
            (taken if valid else refused).append((path, value))
    return taken, refused


def start_with_its_settings(service: str, manifests: list[Manifest]) -> None:
    """A pod of these manifests would not be refused by its own settings."""
    (deployment,) = of_kind(manifests, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    given = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    prefix = service.upper()
    urls = {
        f"{prefix}_DATABASE_URL": "postgresql://u:p@h:5432/d",
        f"{prefix}_REDIS_URL": "redis://h:6379/0",
    }
    with pytest.MonkeyPatch.context() as patch:
        start(service, given | urls, patch)


@pytest.mark.parametrize("chart", CHARTS)
def test_an_odd_value_is_refused_in_a_line_or_rendered_right(
    charts: Charts, schemas: Path, tmp_path: Path, chart: str
) -> None:
    sys.stdout.write(f"ODD_VALUES_SEED={SEED}\n")  # shown where the test fails
    chosen = random.Random(f"{chart} {SEED}")
    taken, refused = cases(chart)
    rendered = tmp_path / "rendered"
    rendered.mkdir()
    wrong = []
    tried = [
        *chosen.sample(taken, min(EACH, len(taken))),
        *chosen.sample(refused, min(EACH // 4, 50, len(refused))),
    ]
    for number, (path, value) in enumerate(tried):
        case = f"{path}={json.dumps(value)[:40]}"
        try:
            text = charts.text(chart, json.dumps(nested(path, value)))
        except Refused as refusal:
            if fault := fault_of(str(refusal)):
                wrong.append(f"{case}: {fault}")
            continue
        if found := SPOILT.search(text):
            wrong.append(f"{case}: {found[0]} in {text[found.start() - 80 : found.end() + 20]!r}")
        (rendered / f"{number}-{path}.yaml").write_text(text)
        if chart in SERVICES:
            try:
                start_with_its_settings(chart, [each for each in load_all(text) if each])
            except ValidationError as error:
                wrong.append(f"{case}: the service refuses {error.errors()[0]['msg']!r}")
    assert not wrong, "\n".join(wrong)
    assert_conforming(rendered, schemas)


def fault_of(said: str) -> str:
    """What is wrong with a refusal; nothing when it says plainly what is refused."""
    lines = [line for line in said.splitlines() if line and "coalesce.go" not in line]
    if len(lines) == 1 and HELMS_OWN.fullmatch(lines[0]):
        return ""
    if accident := ACCIDENT.search("\n".join(lines)):
        return f"{accident[0]!r} in {lines}"
    if not any(line.startswith(("Error: execution error at", "- at '")) for line in lines):
        return f"no reason in {lines}"
    return ""


@pytest.mark.parametrize(
    "said",
    [
        "Error: YAML parse error on redis/templates/statefulset.yaml: mapping values",
        'Error: template: a.tpl:1:2: executing "a" at <.x.y>: nil pointer evaluating interface',
        "coalesce.go:298: warning: cannot overwrite table",
    ],
)
def test_an_accident_of_a_template_is_no_refusal(said: str) -> None:
    assert fault_of(said)


def test_what_helm_itself_says_of_a_chart_that_is_no_section_is_a_refusal() -> None:
    assert not fault_of("Error: type mismatch on redis: %!t(float64=0)")
