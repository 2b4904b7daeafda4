"""The rules without any I/O."""

import uuid
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from invoice.domain import (
    Delete,
    Invoice,
    InvoiceStatus,
    Refusal,
    Update,
    invoice_id_for_order,
    lock_names,
    operation_id_for_key,
    parse_uuid,
    refusal_of,
)

ORDER = uuid.UUID("3f1c2b9e-8a55-4d0e-9a53-0c1d2e3f4a5b")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def invoice(*, version: int = 3, status: str = "updated", fence: int = 7) -> Invoice:
    return Invoice(
        id=ORDER,
        order_id=None,
        user_id=ORDER,
        total=Decimal("1.00"),
        status=InvoiceStatus(status),
        version=version,
        fence=fence,
        created_at=NOW,
        updated_at=NOW,
    )


def test_an_orders_invoice_has_the_id_that_the_order_service_derives_too() -> None:
    # The same literal stands in the order service's test of its own rule.
    assert str(invoice_id_for_order(ORDER)) == "65d46a2e-3eaf-51ea-bc0d-9d6d17a70338"


def test_an_orders_invoice_is_locked_by_the_pair_of_names_with_the_orders_hash_tag() -> None:
    assert lock_names(uuid.uuid4(), ORDER) == (f"order:{{{ORDER}}}", f"invoice:{{{ORDER}}}")


def test_an_invoice_without_an_order_is_locked_by_its_own_name() -> None:
    assert lock_names(ORDER, None) == (f"invoice:{{{ORDER}}}",)


def test_a_key_that_is_a_uuid_is_the_operation_id_in_either_case() -> None:
    assert operation_id_for_key(str(ORDER).upper()) == ORDER


def test_another_key_always_gives_the_same_operation_id() -> None:
    assert operation_id_for_key("order 17") == operation_id_for_key("order 17")
    assert operation_id_for_key("order 17") != operation_id_for_key("order 18")


@pytest.mark.parametrize("text", ["", "17", ORDER.hex, f"{{{ORDER}}}", f"urn:uuid:{ORDER}"])
def test_only_the_canonical_form_counts_as_a_uuid(text: str) -> None:
    assert parse_uuid(text) is None


def test_the_next_version_under_a_lock_that_is_not_older_is_allowed() -> None:
    change = Update(ORDER, version=4, total=Decimal(2))
    assert refusal_of(invoice(), change, fence=7) is None


@pytest.mark.parametrize(
    ("found", "fence", "expected"),
    [
        (None, 7, Refusal.NOT_FOUND),
        (invoice(status="deleted"), 7, Refusal.DELETED),
        (invoice(version=4), 7, Refusal.WRONG_VERSION),
        (invoice(version=2), 7, Refusal.WRONG_VERSION),
        (invoice(), 6, Refusal.STALE_FENCE),
    ],
)
def test_every_other_change_is_refused_for_its_reason(
    found: Invoice | None, fence: int, expected: Refusal
) -> None:
    assert refusal_of(found, Delete(ORDER, version=4), fence=fence) is expected
