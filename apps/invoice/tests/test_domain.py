"""The rules without any I/O."""

import uuid

import pytest

from invoice.domain import (
    invoice_id_for_order,
    lock_names,
    operation_id_for_key,
    parse_uuid,
)

ORDER = uuid.UUID("3f1c2b9e-8a55-4d0e-9a53-0c1d2e3f4a5b")


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
