"""What an API document must have, beyond being one: each rule yields what breaks it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema

Document = dict[str, Any]
Rule = Callable[[Document], Iterator[str]]
METHODS = {"get", "put", "post", "delete", "patch"}
BOUNDED = {"pattern", "format", "enum", "const", "maxLength", "$ref"}


def operations(document: Document) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation, with its name for people."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield f"{method} {path}", operation


def says_what_it_is(document: Document) -> Iterator[str]:
    """Title, version, description, contact, licence and servers are there."""
    info = document["info"]
    yield from (f"info.{name} is missing" for name in ("title", "version") if not info.get(name))
    if len(info.get("description", "")) < 100:
        yield "info.description says nothing"
    if not info.get("contact", {}).get("name"):
        yield "info.contact names nobody"
    if not info.get("license", {}).get("identifier"):
        yield "info.license has no identifier"
    if not document.get("servers") or not all(each.get("url") for each in document["servers"]):
        yield "servers is missing"


def tags_are_declared(document: Document) -> Iterator[str]:
    """Each operation has tags, and each tag is declared with a description, and used."""
    declared = {tag["name"]: tag.get("description") for tag in document.get("tags", [])}
    used = {tag for _, operation in operations(document) for tag in operation.get("tags", [])}
    yield from (f"tag {tag} is not declared" for tag in used - declared.keys())
    yield from (f"tag {tag} is not used" for tag in declared.keys() - used)
    yield from (f"tag {tag} has no description" for tag, text in declared.items() if not text)
    for name, operation in operations(document):
        if not operation.get("tags"):
            yield f"{name} has no tag"


def operations_are_named_and_described(document: Document) -> Iterator[str]:
    """Names of operations are there and unique; each says what it does."""
    names = Counter(operation.get("operationId") for _, operation in operations(document))
    yield from (
        f"operationId {name} comes {count} times" for name, count in names.items() if count > 1
    )
    for name, operation in operations(document):
        if not operation.get("operationId"):
            yield f"{name} has no operationId"
        if not operation.get("summary") or not operation.get("description"):
            yield f"{name} is not described"


def parameters_are_described_and_bounded(document: Document) -> Iterator[str]:
    """Each parameter says what it is, and what text it takes."""
    for name, operation in operations(document):
        for parameter in operation.get("parameters", []):
            schema = parameter["schema"]
            where = f"{name}: {parameter['name']}"
            if parameter["in"] != "path" and not parameter.get("description"):
                yield f"{where} is not described"
            if schema.get("type") == "string" and not BOUNDED & schema.keys():
                yield f"{where} takes any text"
            if "null" in str(schema.get("anyOf", "")):
                yield f"{where} may be null, which a parameter cannot"


def numbers_have_bounds(document: Document) -> Iterator[str]:
    """Whatever number a request may hold has a least and a greatest."""
    for name, operation in operations(document):
        for parameter in operation.get("parameters", []):
            yield from _unbounded(document, parameter["schema"], f"{name}: {parameter['name']}")
        body = operation.get("requestBody")
        if body is not None:
            schema = body["content"]["application/json"]["schema"]
            yield from _unbounded(document, schema, f"{name}: body")


def _unbounded(document: Document, schema: Any, where: str) -> Iterator[str]:
    if isinstance(schema, list):
        for each in schema:
            yield from _unbounded(document, each, where)
    if not isinstance(schema, dict):
        return
    if "$ref" in schema:
        yield from _unbounded(document, _resolved(document, schema["$ref"], missing={}), where)
    if schema.get("type") in {"integer", "number"}:
        yield from (f"{where}: no {end}" for end in ("minimum", "maximum") if end not in schema)
    for name, value in schema.items():
        if name != "examples":
            yield from _unbounded(document, value, f"{where}.{name}")


def examples_are_valid(document: Document) -> Iterator[str]:
    """An example is one of what it exemplifies."""
    for name, schema in document["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            whole = {**described, "components": document["components"]}
            for example in described.get("examples", []):
                try:
                    jsonschema.validate(example, whole)
                except jsonschema.ValidationError as error:
                    yield f"{name}.{field}: {error.message}"


def references_lead_somewhere(document: Document) -> Iterator[str]:
    """Each ``$ref`` is to be found, and each schema is referred to."""
    found = set(_references(document))
    for reference in found:
        if _resolved(document, reference, missing=None) is None:
            yield f"{reference} leads nowhere"
    for name in document["components"]["schemas"]:
        if f"#/components/schemas/{name}" not in found:
            yield f"schema {name} is not used"


def refusals_are_problem_details(document: Document) -> Iterator[str]:
    """Each operation that can refuse does so in one form."""
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            if not answer.get("description"):
                yield f"{name}: {status} is not described"
            if status >= "400" and operation["tags"] != ["health"]:
                kinds = list(answer.get("content", {}))
                if kinds != ["application/problem+json"]:
                    yield f"{name}: {status} is {kinds}"


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str):
            yield reference
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _resolved(document: Document, reference: str, *, missing: Any) -> Any:
    node: Any = document
    for part in reference.removeprefix("#/").split("/"):
        if part not in node:
            return missing
        node = node[part]
    return node


RULES: tuple[Rule, ...] = (
    says_what_it_is,
    tags_are_declared,
    operations_are_named_and_described,
    parameters_are_described_and_bounded,
    numbers_have_bounds,
    examples_are_valid,
    references_lead_somewhere,
    refusals_are_problem_details,
)


def findings(document: Document) -> list[str]:
    """Everything that breaks a rule."""
    return [f"{rule.__name__}: {found}" for rule in RULES for found in rule(document)]
