"""A semaphore with one permit is a lock: it keeps what an exclusive lock promises, word by word."""

import inspect
from typing import Any

import pytest
from libs.lock.tests.clients import Api, Clients
from libs.lock.tests.contract import (
    test_all_or_none,
    test_cancelling_leaves_nothing,
    test_loss_ends_the_body,
    test_renewal,
)
from libs.lock.tests.contract.test_the_fake_keeps_the_contracts import CONTRACTS, Contract
from libs.lock.tests.variants import sound
from redis.asyncio import Redis

from fencelock import Kind

# What the record of an exclusive lock looks like on the server is no promise of this kind.
NOT_FOR_PERMITS = [test_all_or_none.test_all_names_have_one_owner_and_one_fence]
# A thread cannot be interrupted or cancelled.
FOR_TASKS = {test_loss_ends_the_body.__name__, test_cancelling_leaves_nothing.__name__}

ALL: list[Contract] = [
    *[each for each in CONTRACTS if each not in NOT_FOR_PERMITS],
    test_renewal.test_fifty_leases_are_renewed_in_one_call,
    test_renewal.test_a_lease_outlives_its_first_term,
    test_renewal.test_a_lease_that_came_by_push_is_stretched_to_its_full_term,
]
TRIED: list[tuple[Api, Contract]] = [
    *[("async", each) for each in ALL],
    *[("blocking", each) for each in ALL if each.__module__ not in FOR_TASKS],
]


@pytest.mark.parametrize(
    ("api", "contract"), TRIED, ids=lambda each: getattr(each, "__name__", each)
)
async def test_a_semaphore_of_one_keeps(contract: Contract, clients: Clients, admin: Redis) -> None:
    clients.kind = Kind.permits(1)
    given: dict[str, Any] = {"clients": clients, "admin": admin, "scripts": sound()}
    await contract(**{name: given[name] for name in inspect.signature(contract).parameters})
