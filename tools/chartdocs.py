"""Writes every chart's values.schema.json and README.md from the comments in its values.yaml.

A value's meaning is the comment above it; a line ``# schema: {...}`` in that comment narrows what
is accepted. Everything else follows from the key and its default: its type, that no other key is
allowed, that a whole number is one that Kubernetes can count to, that a text is one line, and that
what is a name in Kubernetes is written as one.
``python -m tools.chartdocs`` writes the files, ``--check`` only says which ones are out of date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CHARTS = Path(__file__).resolve().parent.parent / "charts"
SCHEMA_MARK = "schema:"
TYPES = {
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "str": "string",
    "seq": "array",
    "map": "object",
}

# Of an int32, as Kubernetes has it for replicas and seconds; fewer than none needs a rule.
WHOLE: dict[str, Any] = {"minimum": 0, "maximum": 2**31 - 1}
SWITCH = {
    "type": "boolean",
    "description": "Read by the chart that contains this one: whether to install it.",
}
ONE_LINE: dict[str, Any] = {"pattern": "^[^\\x00-\\x1f\\x7f]*$"}
NAME = "[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
NAMED = {"pattern": f"^({NAME})?$", "maxLength": 253}
# A name, or a template that makes one.
FILLED = {"pattern": f"^({NAME}|[^\\x00-\\x1f\\x7f]*[{{]{{2}}[^\\x00-\\x1f\\x7f]*)?$"}
BY_KEY: dict[str, dict[str, Any]] = {
    "existingSecret": FILLED,
    "existingClaim": FILLED,
    "claim": FILLED,
    "tokenSecret": FILLED,
    "tlsSecret": NAMED,
    "storageClass": NAMED,
    "priorityClassName": NAMED,
    "className": NAMED,
    "nameOverride": {"pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", "maxLength": 63},
    "loadBalancerClass": {"pattern": "^([a-z0-9.-]+/)?[-A-Za-z0-9_.]*$"},
    "topologyKey": {"pattern": "^([a-z0-9.-]+/)?[-A-Za-z0-9_.]+$"},
}


@dataclass(frozen=True)
class Value:
    """One key of values.yaml: what it means, what it accepts, and the keys inside it."""

    name: str
    default: Any
    kind: str
    meaning: str
    rules: dict[str, Any]
    inside: list[Value] = field(default_factory=list)


def read_values(path: Path) -> list[Value]:
    """The keys of a values file with their comments."""
    text = path.read_text()
    node = yaml.compose(text)
    if not isinstance(node, yaml.MappingNode):
        raise TypeError(f"{path}: not a mapping")
    return list(read_mapping(node, text.splitlines()))


def read_mapping(node: yaml.MappingNode, lines: list[str]) -> Iterator[Value]:
    """The keys of one mapping; a mapping written in braces is one value, not a section."""
    for key, value in node.value:
        comment = list(comment_above(key.start_mark.line, lines))
        meaning = " ".join(line for line in comment if not line.startswith(SCHEMA_MARK))
        rules = [line.removeprefix(SCHEMA_MARK) for line in comment if line.startswith(SCHEMA_MARK)]
        section = isinstance(value, yaml.MappingNode) and not value.flow_style
        yield Value(
            name=key.value,
            default=yaml.safe_load(yaml.serialize(value)),
            kind=TYPES[value.tag.rsplit(":", 1)[1]],
            meaning=meaning,
            rules=yaml.safe_load(rules[0]) if rules else {},
            inside=list(read_mapping(value, lines)) if section else [],
        )


def comment_above(line: int, lines: list[str]) -> Iterator[str]:
    """The comment lines directly above a line, without their marks."""
    first = line
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return (text.strip().removeprefix("#").strip() for text in lines[first:line])


def schema_of(value: Value, subcharts: set[str]) -> dict[str, Any]:
    """What one value accepts. A subchart's other values are checked by its own schema."""
    schema: dict[str, Any] = {"type": value.kind} | usual(value)
    if value.meaning:
        schema["description"] = value.meaning
    if value.inside:
        schema["properties"] = {inner.name: schema_of(inner, set()) for inner in value.inside}
        schema["additionalProperties"] = False
        schema["required"] = [inner.name for inner in value.inside]
    if value.name in subcharts:
        open_up(schema)
    return schema | value.rules


def usual(value: Value) -> dict[str, Any]:
    """What holds for every value of this kind, or with this key, unless its comment says more."""
    if value.kind == "integer":
        return WHOLE
    if value.kind == "string" and "enum" not in value.rules and "const" not in value.rules:
        return BY_KEY.get(value.name, ONE_LINE)
    return {}


def open_up(schema: dict[str, Any]) -> None:
    """Let a subchart's section hold keys that only the subchart knows, at every depth."""
    schema.pop("additionalProperties", None)
    for inner in schema.get("properties", {}).values():
        open_up(inner)


def chart_schema(
    values: list[Value], dependencies: list[str], *, switched: bool = False
) -> dict[str, Any]:
    """The schema of a chart: its own keys, and one for each chart in it.

    One that others switch by ``NAME.enabled`` takes that key and has no default for it: where a
    parent's section was set to null, its defaults are gone, and the parent's schema finds the
    switch missing instead of installing something else in silence.
    """
    properties: dict[str, Any] = {name: {"type": "object"} for name in dependencies}
    if switched:
        properties["enabled"] = SWITCH
    properties |= {value.name: schema_of(value, set(dependencies)) for value in values}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        # Helm takes out a key that is set to null; templates would fail on that, and say less.
        "required": [value.name for value in values],
    }


def rows(values: list[Value], prefix: str = "") -> Iterator[str]:
    """The table rows of these keys; a section gives one for each key in it."""
    for value in values:
        name = f"{prefix}{value.name}"
        if value.inside:
            yield from rows(value.inside, f"{name}.")
        else:
            default = json.dumps(value.default, separators=(", ", ": ")).replace("|", "\\|")
            yield f"| `{name}` | `{default}` | {(value.meaning + limits(value)).strip()} |"


def limits(value: Value) -> str:
    """The narrowing rules a person wants to know, in words."""
    words = {"enum": "one of", "minimum": "at least", "maximum": "at most"}
    told = [
        f"{words[rule]} {', '.join(map(str, bound)) if isinstance(bound, list) else bound}"
        for rule, bound in value.rules.items()
        if rule in words
    ]
    return f" ({'; '.join(told)})" if told else ""


def readme(chart: Path, table: dict[str, Any], values: list[Value]) -> str:
    """The README: what the chart is, how to install it, and every value."""
    name = chart.name
    files = sorted(path.name for path in chart.glob("values-*.yaml"))
    install = "\n".join(
        f"helm install {name} charts/{name}{extra}"
        for extra in ["", *(f" --values charts/{name}/{file}" for file in files)]
    )
    packing = "make charts   # once: fetches nothing, packs the charts this one is made of"
    heading = "| value | default | meaning |\n|---|---|---|\n"
    parts = [
        f"# {name}\n\n{table['description']}",
        f"```\n{packing}\n{install}\n```",
        "Installing, upgrading and removing: [docs/kubernetes.md](../../docs/kubernetes.md).",
        "## Values",
        "Every value, its default and its meaning. A key that is not here is refused.",
        heading + "\n".join(rows(values)),
    ]
    return "\n\n".join(parts) + "\n"


def switched_charts() -> set[str]:
    """The charts that another one installs on a condition."""
    tables = [yaml.safe_load(path.read_text()) for path in CHARTS.glob("*/Chart.yaml")]
    return {
        dependency["name"]
        for table in tables
        for dependency in table.get("dependencies", [])
        if dependency.get("condition") == f"{dependency['name']}.enabled"
    }


def documents(chart: Path) -> dict[Path, str]:
    """The files of one chart that are made from its values, and what they should hold."""
    table = yaml.safe_load((chart / "Chart.yaml").read_text())
    if table["type"] == "library":
        return {}
    values = read_values(chart / "values.yaml")
    dependencies = [dependency["name"] for dependency in table.get("dependencies", [])]
    schema = chart_schema(values, dependencies, switched=chart.name in switched_charts())
    return {
        chart / "values.schema.json": json.dumps(schema, indent=2) + "\n",
        chart / "README.md": readme(chart, table, values),
    }


def main(arguments: list[str]) -> int:
    """Write the documents, or with ``--check`` name the stale ones and exit with 1."""
    wanted: dict[Path, str] = {}
    for chart in sorted(path.parent for path in CHARTS.glob("*/Chart.yaml")):
        wanted |= documents(chart)
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if "--check" not in arguments:
            path.write_text(wanted[path])
        print(f"{'stale' if '--check' in arguments else 'wrote'} {path.relative_to(CHARTS.parent)}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
