"""The OpenAPI document tells the truth and all of it."""

import httpx
import pytest

EXPECTED = {
    ("post", "/invoices"): "201 400 409 413 415 422 428 500 503 504",
    ("get", "/invoices"): "200 422 500 503",
    ("get", "/invoices/{invoice_id}"): "200 304 404 412 422 500 503",
    ("patch", "/invoices/{invoice_id}"): "204 400 404 409 412 413 415 422 428 500 503 504",
    ("delete", "/invoices/{invoice_id}"): "204 404 409 412 422 428 500 503 504",
    ("get", "/operations/{op_id}"): "200 404 422 500 503",
    ("post", "/operations/{op_id}/abort"): "200 400 413 415 422 500 503 504",
}


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, dict[str, dict[str, object]]]:
    answer = await client.get("/openapi.json")
    found: dict[str, dict[str, dict[str, object]]] = answer.json()
    return found


@pytest.mark.parametrize(("operation", "statuses"), EXPECTED.items(), ids=str)
async def test_every_status_of_an_operation_is_documented(
    document: dict[str, dict[str, dict[str, object]]],
    operation: tuple[str, str],
    statuses: str,
) -> None:
    method, path = operation
    described = document["paths"][path][method]
    assert isinstance(described, dict)
    assert sorted(described["responses"]) == statuses.split()


async def test_every_refusal_is_documented_as_problem_details(
    document: dict[str, dict[str, dict[str, object]]],
) -> None:
    schemas = document["components"]["schemas"]
    assert {"ProblemDocument", "FieldError"} <= set(schemas)
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)
    for path in document["paths"].values():
        for described in path.values():
            assert isinstance(described, dict)
            for status, answer in described["responses"].items():
                if status >= "400" and "/readyz" not in str(described.get("operationId")):
                    content = list(answer["content"])
                    assert content == ["application/problem+json"] or status == "503"


async def test_the_documentation_page_is_served(client: httpx.AsyncClient) -> None:
    assert (await client.get("/docs")).status_code == 200
