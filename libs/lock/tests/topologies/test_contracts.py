"""The promises that a client alone can try, on every topology and with both clients.

The others look into the one server that they know, or stop it; what they promise of several servers
is tried beside this, topology by topology. A quorum has no semaphores, which it says.
"""

from collections.abc import Awaitable, Callable

import pytest
from libs.lock.tests.clients import Api, Clients
from libs.lock.tests.contract import (
    test_all_or_none,
    test_cancelling_leaves_nothing,
    test_fences_grow,
    test_kinds,
    test_mutual_exclusion,
    test_outages,
    test_proofs,
    test_reentry,
    test_trying_never_queues,
)
from libs.lock.tests.topologies import leases
from libs.lock.tests.topologies.servers import Clustered, Replicated

from devkit.servers import RedisServer
from fencelock import AsyncLockClient, Kind

Contract = Callable[[Clients], Awaitable[None]]


def _of_one(contract: Callable[[AsyncLockClient], Awaitable[None]]) -> Contract:
    """A contract that is about one client, of whichever servers."""

    async def tried(clients: Clients) -> None:
        await contract(clients.make())

    tried.__name__ = contract.__name__
    return tried


def _with(contract: Callable[..., Awaitable[None]], kind: Kind) -> Contract:
    """A contract that every kind keeps."""

    async def tried(clients: Clients) -> None:
        await contract(clients, kind=kind)

    tried.__name__ = f"{contract.__name__}[{kind}]"
    return tried


# What a lease is good for, and for how long.
LEASE = [
    leases.what_a_killed_process_held_is_granted_after_its_lease,
    leases.a_lease_is_renewed_for_as_long_as_it_is_held,
]
EVERYWHERE: list[Contract] = [
    *[_with(contract, kind) for contract in LEASE for kind in (Kind.EXCLUSIVE, Kind.SHARED)],
    test_all_or_none.test_opposite_orders_do_not_deadlock,
    test_fences_grow.test_fences_of_one_name_and_of_several_are_of_one_order,
    test_kinds.test_readers_are_together_and_writers_alone,
    test_mutual_exclusion.test_never_two_inside,
    test_outages.test_max_hold_counts_from_the_grant,
    test_proofs.test_everything_else_is_refused,
    test_proofs.test_the_next_lease_of_the_same_name_has_another_proof,
    test_trying_never_queues.test_a_try_takes_a_free_lock,
]
WITH_A_LINE: list[Contract] = [
    *[_with(contract, Kind.permits(1)) for contract in LEASE],
    test_fences_grow.test_fences_grow_for_waiters_and_newcomers,
    test_kinds.test_no_more_are_inside_than_there_are_permits,
    test_kinds.test_a_limit_that_changes_counts_for_those_who_ask,
    *[
        _with(test_kinds.test_those_who_share_have_fences_and_proofs_of_their_own, kind)
        for kind in (Kind.SHARED, Kind.permits(2))
    ],
]
# A thread that waits cannot be cancelled from outside.
OF_TASKS: list[Contract] = [
    test_cancelling_leaves_nothing.test_the_canceller_can_take_the_lock_at_once,
    test_reentry.test_another_client_is_somebody_else,
    _of_one(test_reentry.test_after_an_early_release_it_is_taken_anew),
    _of_one(test_reentry.test_a_task_started_under_the_lock_waits_like_anybody),
    _of_one(test_reentry.test_both_must_say_so),
]


def _on(*groups: list[Contract]) -> pytest.MarkDecorator:
    """Each contract with each client that it is about."""
    contracts = [contract for group in groups for contract in group]
    return pytest.mark.parametrize(
        ("api", "contract"),
        [("async", each) for each in contracts + OF_TASKS]
        + [("blocking", each) for each in contracts],
        ids=_name,
    )


def _name(value: object) -> str:
    return str(getattr(value, "__name__", value)).removeprefix("test_")


@_on(EVERYWHERE, WITH_A_LINE)
async def test_with_sentinels(replicated: Replicated, api: Api, contract: Contract) -> None:
    async with Clients(replicated.url, api) as clients:
        await contract(clients)


@_on(EVERYWHERE, WITH_A_LINE)
async def test_on_a_cluster(clustered: Clustered, api: Api, contract: Contract) -> None:
    async with Clients(clustered.url, api) as clients:
        await contract(clients)


@_on(EVERYWHERE)
async def test_on_a_quorum(five: list[RedisServer], api: Api, contract: Contract) -> None:
    async with Clients(",".join(each.url for each in five), api) as clients:
        await contract(clients)
