"""Requests made from the API documents: whatever they say may be sent is answered as they say.

Each operation is called as the document allows, and also as it forbids. No answer may be a
status, a media type or a body that the document does not name, nor an error of the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from tests.together.fixtures import nursery, templates
from tests.together.processes import Nursery
from tests.together.shop import Shop, Templates

from devkit.servers import PostgresServer, RedisServer
from devkit.services import SERVICES

__all__ = ["nursery", "templates"]

EXAMPLES = 10
# No schema says that quantity times value has a limit, or that an order's invoice needs its lock.
UNSAID: list[Any] = [positive_data_acceptance, negative_data_rejection]
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


@pytest.fixture(scope="module")
def shop(
    nursery: Nursery,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    templates: Templates,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    with Shop(
        tmp_path_factory.mktemp("api"),
        nursery=nursery,
        postgres=postgres_server,
        redis_server=redis_server,
        templates=templates,
        settings={},
    ) as started:
        yield started


def url_of(shop: Shop, service: str) -> str:
    return shop.order.url if service == "order" else shop.invoice.url


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("service", SERVICES)
def test_every_answer_is_one_that_the_document_names(
    shop: Shop, service: str, mode: GenerationMode
) -> None:
    url = url_of(shop, service)
    document = httpx.get(f"{url}/openapi.json", timeout=30).json()
    # Only the routes: the documents' own path is none of them.
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = cast("Any", found).ok()
        if mode is GenerationMode.POSITIVE or _takes_anything(operation):
            _fuzz(operation, url, mode)


def _takes_anything(operation: Any) -> bool:
    return bool(list(operation.iter_parameters()) or operation.body)


def _fuzz(operation: Any, url: str, mode: GenerationMode) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(base_url=url, timeout=30, excluded_checks=UNSAID)

    check()


def test_an_answer_that_the_document_does_not_name_is_found(shop: Shop) -> None:
    url = url_of(shop, "order")
    document = httpx.get(f"{url}/openapi.json", timeout=30).json()
    operation = document["paths"]["/ping"]["get"]
    operation["responses"] = {"418": operation["responses"]["200"]}
    schema = schemathesis.openapi.from_dict(document)
    with pytest.raises(FailureGroup, match="Undocumented"):
        _fuzz(schema["/ping"]["GET"], url, GenerationMode.POSITIVE)
