"""The rules of orders, without any input or output."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order import domain
from order.domain import Body, Create, Delete, Kind, Order, Status, Update

NOW = datetime(2030, 1, 1, tzinfo=UTC)
OP = uuid.UUID(int=7)
SKEW = timedelta(minutes=5)


def an_order(*, version: int = 1, status: Status = Status.CREATED) -> Order:
    body = Body(
        user_id=uuid.UUID(int=1),
        item_id=uuid.UUID(int=2),
        quantity=2,
        value=Decimal("9.50"),
        status=status,
        update_time=NOW,
    )
    return Order(
        id=uuid.UUID(int=3),
        version=version,
        body=body,
        pending_op=None,
        created_at=NOW,
        updated_at=NOW,
    )


def plan_change(order: Order | None, command: Update | Delete, *, op_id: uuid.UUID = OP) -> Any:
    return domain.plan_change(order, command, op_id=op_id, now=NOW, skew=SKEW)


def an_update(*, update_time: datetime = NOW, accepted: frozenset[int] | None = None) -> Update:
    return Update(
        order_id=uuid.UUID(int=3), update_time=update_time, quantity=5, accepted_versions=accepted
    )


def test_the_invoice_id_follows_from_the_order_id() -> None:
    order_id = uuid.UUID("3f1c2b9e-8a55-4d0e-9a53-0c1d2e3f4a5b")
    # The same literal stands in the invoice service's test of its own rule.
    assert str(domain.invoice_id_for(order_id)) == "65d46a2e-3eaf-51ea-bc0d-9d6d17a70338"


def test_both_locks_share_the_orders_hash_tag() -> None:
    order_id = uuid.UUID(int=3)
    assert domain.lock_names(order_id) == (f"order:{{{order_id}}}", f"invoice:{{{order_id}}}")


def test_a_creation_makes_version_1_with_the_total() -> None:
    command = Create(
        order_id=uuid.UUID(int=3),
        user_id=uuid.UUID(int=1),
        item_id=uuid.UUID(int=2),
        quantity=3,
        value=Decimal("19.99"),
    )
    operation = domain.plan_creation(command, op_id=OP, now=NOW)
    assert (operation.kind, operation.version) == (Kind.CREATE, 1)
    assert operation.body.total == Decimal("59.97")
    assert operation.body.update_time == NOW


def test_an_update_carries_the_whole_resulting_body() -> None:
    operation = plan_change(an_order(version=4, status=Status.UPDATED), an_update(), op_id=OP)
    assert operation is not None
    assert (operation.kind, operation.version) == (Kind.UPDATE, 5)
    assert operation.body == Body(
        user_id=uuid.UUID(int=1),
        item_id=uuid.UUID(int=2),
        quantity=5,
        value=Decimal("9.50"),
        status=Status.UPDATED,
        update_time=NOW,
    )


def test_an_update_of_the_same_time_passes() -> None:
    assert plan_change(an_order(), an_update(update_time=NOW), op_id=OP) is not None


def test_an_older_update_is_refused() -> None:
    older = NOW - timedelta(microseconds=1)
    updated = an_order(version=2, status=Status.UPDATED)
    with pytest.raises(domain.StaleUpdate):
        plan_change(updated, an_update(update_time=older))


def test_a_new_order_takes_what_a_clock_behind_ours_says() -> None:
    assert plan_change(an_order(), an_update(update_time=NOW - SKEW)) is not None
    with pytest.raises(domain.StaleUpdate):
        plan_change(an_order(), an_update(update_time=NOW - SKEW - timedelta(microseconds=1)))


def test_an_update_from_further_ahead_than_clocks_may_differ_is_refused() -> None:
    updated = an_order(version=2, status=Status.UPDATED)
    for order in (an_order(), updated):
        assert plan_change(order, an_update(update_time=NOW + SKEW)) is not None
        with pytest.raises(domain.UpdateFromTheFuture):
            plan_change(order, an_update(update_time=NOW + SKEW + timedelta(microseconds=1)))


def test_a_time_that_no_clock_can_have_shown_binds_no_later_update() -> None:
    updated = an_order(version=2, status=Status.UPDATED)
    stamped = replace(updated, body=replace(updated.body, update_time=NOW + timedelta(days=9999)))
    operation = plan_change(stamped, an_update(update_time=NOW))
    assert operation.body.update_time == NOW


def test_a_deleted_order_is_not_updated() -> None:
    with pytest.raises(domain.AlreadyDeleted):
        plan_change(an_order(version=2, status=Status.DELETED), an_update(), op_id=OP)


def test_deleting_a_deleted_order_needs_no_operation() -> None:
    command = Delete(order_id=uuid.UUID(int=3), accepted_versions=frozenset({1}))
    deleted = an_order(version=2, status=Status.DELETED)
    assert plan_change(deleted, command, op_id=OP) is None


@pytest.mark.parametrize("order", [None, an_order(version=0)])
def test_an_order_without_a_committed_creation_is_unknown(order: Order | None) -> None:
    with pytest.raises(domain.UnknownOrder):
        plan_change(order, an_update(), op_id=OP)
    with pytest.raises(domain.UnknownOrder):
        plan_change(order, Delete(order_id=uuid.UUID(int=3)), op_id=OP)


def test_another_version_than_the_accepted_ones_is_refused() -> None:
    with pytest.raises(domain.VersionMismatch):
        plan_change(an_order(), an_update(accepted=frozenset({2})), op_id=OP)
    with pytest.raises(domain.VersionMismatch):
        plan_change(
            an_order(),
            Delete(order_id=uuid.UUID(int=3), accepted_versions=frozenset()),
            op_id=OP,
        )
    accepted = an_update(accepted=frozenset({1, 2}))
    assert plan_change(an_order(), accepted, op_id=OP) is not None


@given(
    quantity=st.integers(1, domain.MAXIMUM_QUANTITY),
    value=st.decimals(0, domain.MAXIMUM_AMOUNT, places=2),
)
def test_a_total_is_exact_or_refused(quantity: int, value: Decimal) -> None:
    command = Create(
        order_id=uuid.UUID(int=3),
        user_id=uuid.UUID(int=1),
        item_id=uuid.UUID(int=2),
        quantity=quantity,
        value=value,
    )
    cents = quantity * int(value.scaleb(2))
    if cents > int(domain.MAXIMUM_AMOUNT.scaleb(2)):
        with pytest.raises(domain.AmountTooGreat):
            domain.plan_creation(command, op_id=OP, now=NOW)
    else:
        total = domain.plan_creation(command, op_id=OP, now=NOW).body.total
        assert int(total.scaleb(2)) == cents
