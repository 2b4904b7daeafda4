"""The API documents keep the rules, and a document that does not is found out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tests.api.rules import Document, findings
from tools.api_documents import document_of

from devkit.services import SERVICES

Spoil = Callable[[Document], Any]
SPOILED: dict[str, Spoil] = {
    "says_what_it_is": lambda document: document.pop("servers"),
    "tags_are_declared": lambda document: document["tags"].pop(),
    "operations_are_named_and_described": lambda document: document["paths"]["/ping"]["get"].update(
        operationId="livez"
    ),
    "parameters_are_described_and_bounded": lambda document: document["paths"]["/orders"]["post"][
        "parameters"
    ][0]["schema"].pop("pattern"),
    "numbers_have_bounds": lambda document: document["components"]["schemas"]["OrderIn"][
        "properties"
    ]["quantity"].pop("maximum"),
    "examples_are_valid": lambda document: document["components"]["schemas"]["OrderIn"][
        "properties"
    ]["value"].update(examples=["-1"]),
    "references_lead_somewhere": lambda document: document["components"]["schemas"].pop("OrderIn"),
    "refusals_are_problem_details": lambda document: document["paths"]["/orders"]["post"][
        "responses"
    ]["400"].update(content={"text/html": {}}),
}


@pytest.fixture(scope="module")
def documents() -> dict[str, Document]:
    return {service: document_of(service) for service in SERVICES}


@pytest.mark.parametrize("service", SERVICES)
def test_the_document_keeps_every_rule(documents: dict[str, Document], service: str) -> None:
    assert findings(documents[service]) == []


@pytest.mark.parametrize("rule", SPOILED)
def test_each_rule_finds_what_breaks_it(documents: dict[str, Document], rule: str) -> None:
    document = copy.deepcopy(documents["order"])
    SPOILED[rule](document)
    assert any(found.startswith(f"{rule}:") for found in findings(document))
