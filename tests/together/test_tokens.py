"""A whole shop that wants access tokens: its services know each other, its audit is an operator."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.together.conftest import ShopFactory
from tests.together.shop import Shop, wait_for

from order.__main__ import main
from servicekit.testing.tokens import write_tokens

ORDER_IN = {
    "user_id": "7d7e5d2c-3c1f-4c57-9a0e-2f2d5c1e8a11",
    "item_id": "0b9f8f4e-54b5-4d0e-8a55-6a3c1d1f7b22",
    "quantity": 2,
    "value": "9.50",
}
TOKENS = {"alice": "", "ops": "shop:operator", "order": "shop:internal"}


@pytest.fixture
def shop(shop_of: ShopFactory, tmp_path: Path) -> Iterator[Shop]:
    tokens = tmp_path / "tokens"
    write_tokens(tokens, TOKENS)
    for name in TOKENS:
        (tmp_path / name).write_text(f"{name}\n")
    made = shop_of(
        ORDER_AUTH="required",
        ORDER_AUTH_TOKENS_FILE=str(tokens),
        ORDER_INVOICE_TOKEN_FILE=str(tmp_path / "order"),
    )
    try:
        made.invoice.start(
            ready=False, INVOICE_AUTH="required", INVOICE_AUTH_TOKENS_FILE=str(tokens)
        )
        made.order.start()
        made.invoice.wait_ready()
        yield made
    finally:
        made.__exit__()


def by(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def test_orders_and_invoices_agree_and_the_audit_needs_the_token_of_an_operator(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with httpx.Client(base_url=shop.order.url, timeout=20, trust_env=False) as client:
        assert client.post("/orders", json=ORDER_IN).status_code == 401
        made = client.post("/orders", json=ORDER_IN, headers=by("alice"))
        assert made.status_code == 201, made.text
        path = f"/orders/{made.json()['id']}"
        assert client.delete(path, headers=by("alice")).status_code == 204
    services = ["--order-url", shop.order.url, "--invoice-url", shop.invoice.url]
    assert main(["audit", *services]) == 2
    assert "401" in capsys.readouterr().err
    assert main(["audit", *services, "--token-file", str(tmp_path / "ops")]) == 0
    assert main(["audit", *services, "--token-file", str(tmp_path / "missing")]) == 2
    assert "missing" in capsys.readouterr().err
    for log in tmp_path.glob("*.log"):
        assert "Bearer" not in log.read_text(), log


def test_a_credential_that_the_invoice_service_refuses_ends_in_503_and_heals(
    shop: Shop, tmp_path: Path
) -> None:
    shop.order.kill()
    (tmp_path / "order").write_text("alice")
    shop.order.start()
    with httpx.Client(base_url=shop.order.url, timeout=20, trust_env=False) as client:
        answers: list[httpx.Response] = []

        def refused() -> bool:
            answers.append(client.post("/orders", json=ORDER_IN, headers=by("alice")))
            return answers[-1].status_code == 503

        # Before the service is known to refuse, an operation is recorded, and stays to be finished.
        wait_for(refused)
        assert {answer.status_code for answer in answers} <= {202, 503}
        shop.order.kill()
        (tmp_path / "order").write_text("order")
        shop.order.start()
        shop.wait_settled()
        begun = [answer for answer in answers if answer.status_code == 202]
        for answer in begun:
            page = client.get(answer.headers["location"], headers=by("alice")).json()
            assert page["state"] == "committed"
    assert len(shop.orders()) == len(shop.invoices()) == len(begun)
