"""The contracts that a client can see are kept by the server in memory as by a real one."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from libs.lock.tests.contract import (
    test_all_or_none,
    test_cancelling_leaves_nothing,
    test_fences_grow,
    test_first_come_first_served,
    test_kinds,
    test_loss_ends_the_body,
    test_mutual_exclusion,
    test_proofs,
    test_trying_never_queues,
)
from libs.lock.tests.fakes import FakeAdmin, FakeClients
from libs.lock.tests.variants import sound

from fencelock import Kind

Contract = Callable[..., Awaitable[None]]

CONTRACTS: list[Contract] = [
    test_mutual_exclusion.check_contenders,
    test_all_or_none.check_no_partial_hold,
    test_all_or_none.test_all_names_have_one_owner_and_one_fence,
    test_all_or_none.test_opposite_orders_do_not_deadlock,
    test_all_or_none.test_a_lease_that_lost_one_name_is_lost,
    test_cancelling_leaves_nothing.test_a_cancelled_waiter_lets_those_behind_it_proceed,
    test_cancelling_leaves_nothing.test_the_canceller_can_take_the_lock_at_once,
    test_cancelling_leaves_nothing.test_cancelling_the_holder_releases,
    test_cancelling_leaves_nothing.test_a_timed_out_waiter_leaves_no_ticket,
    test_fences_grow.check_grows_over_data_loss,
    test_fences_grow.test_fences_grow_for_waiters_and_newcomers,
    test_fences_grow.test_fences_of_one_name_and_of_several_are_of_one_order,
    test_first_come_first_served.check_order,
    test_first_come_first_served.check_no_barging,
    test_first_come_first_served.test_a_waiter_for_several_names_is_not_starved,
    test_first_come_first_served.test_waiters_that_share_one_name_only_do_not_block_each_other_for_ever,
    test_loss_ends_the_body.test_a_loss_that_only_the_release_finds_is_reported,
    test_loss_ends_the_body.test_the_bodys_own_error_is_not_hidden,
    test_loss_ends_the_body.test_an_error_of_the_body_passes_and_releases,
    test_loss_ends_the_body.test_a_cancellation_from_outside_stays_one,
    test_loss_ends_the_body.test_a_loss_inside_a_timeout_is_a_loss,
    test_loss_ends_the_body.test_a_timeout_inside_a_lock_is_a_timeout,
    test_loss_ends_the_body.test_a_hold_ends_at_its_cap,
    test_loss_ends_the_body.test_a_swallowed_interruption_is_still_reported,
    test_loss_ends_the_body.test_without_a_block_the_lease_says_so_itself,
    test_proofs.check_refusals,
    test_proofs.test_the_next_lease_of_the_same_name_has_another_proof,
    test_trying_never_queues.test_a_refused_try_leaves_no_ticket,
    test_trying_never_queues.test_a_try_takes_a_free_lock,
]


KINDS: list[Contract] = [
    test_kinds.check_readers_and_writers,
    test_kinds.check_permits,
    test_kinds.check_the_writer_is_not_starved,
    test_kinds.test_several_names_are_shared_or_held_together,
    test_kinds.test_a_limit_that_changes_counts_for_those_who_ask,
    test_kinds.test_a_release_lets_all_readers_in_at_once,
    test_kinds.test_what_is_no_kind_is_refused,
    test_kinds.test_those_who_share_have_fences_and_proofs_of_their_own,
    test_kinds.test_nothing_is_left_behind,
    test_kinds.test_cancelling_a_waiter_lets_those_behind_it_proceed,
]


@pytest.mark.parametrize("kind", [Kind.EXCLUSIVE, Kind.permits(1)], ids=str)
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
async def test_the_fake_keeps(contract: Contract, kind: Kind) -> None:
    clients = FakeClients()
    clients.kind = kind
    await _keep(contract, clients, Kind.EXCLUSIVE)


@pytest.mark.parametrize("kind", [Kind.SHARED, Kind.permits(2)], ids=str)
@pytest.mark.parametrize("contract", KINDS, ids=lambda contract: contract.__name__)
async def test_the_fake_keeps_kinds(contract: Contract, kind: Kind) -> None:
    await _keep(contract, FakeClients(), kind)


async def _keep(contract: Contract, clients: FakeClients, kind: Kind) -> None:
    given: dict[str, Any] = {
        "clients": clients,
        "admin": FakeAdmin(clients.server),
        "scripts": sound(),
        "kind": kind,
    }
    await contract(**{name: given[name] for name in inspect.signature(contract).parameters})
