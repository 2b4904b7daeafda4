"""A service that runs out of file descriptors serves on, says why in its log, and recovers."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from tests.together.conftest import ShopFactory
from tests.together.processes import Service
from tests.together.shop import wait_for

INVOICE = {"user_id": "7d7e5d2c-3c1f-4c57-9a0e-2f2d5c1e8a11", "total": "1"}


def status_of(service: Service, method: str, path: str, body: object = None) -> int:
    """What a new client is answered; 0 for nothing."""
    try:
        with httpx.Client(base_url=service.url, timeout=20.0, trust_env=False) as client:
            return client.request(method, path, json=body).status_code
    except httpx.TransportError:
        return 0


def serves(service: Service) -> bool:
    probed = status_of(service, "GET", "/livez"), status_of(service, "POST", "/invoices", INVOICE)
    return probed == (200, 201)


@contextmanager
def silent(service: Service, clients: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(clients):
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port)))
        yield


def logged(service: Service, name: str) -> list[dict[str, object]]:
    return [event for event in service.events() if event["event"] == name]


def test_with_few_descriptors_twice_as_many_silent_clients_keep_nobody_out(
    shop_of: ShopFactory,
) -> None:
    shop = shop_of()
    try:
        service = shop.invoice.start(descriptors=128)
        with silent(service, 256):
            for _ in range(3):
                assert serves(service)
            (limited,) = logged(service, "connections_limited")
            assert (limited["descriptors"], limited["wanted"]) == (128, 1000)
            assert logged(service, "connections_full")
            assert not logged(service, "descriptors_exhausted")
        assert serves(service)
    finally:
        shop.__exit__()


def test_when_others_take_the_descriptors_the_log_says_so_and_silent_clients_give_theirs_up(
    shop_of: ShopFactory,
) -> None:
    shop = shop_of()
    try:
        service = shop.invoice.start()
        assert serves(service)  # by a connection to the database, which stays
        _, hard = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
        # The limit is on numbers, and there may be some free below those in use.
        in_use = Path(f"/proc/{service.pid}/fd").iterdir()
        left = 1 + max(int(each.name) for each in in_use)
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (left, hard))
        with ExitStack() as clients:

            def one_more_and_it_is_noticed() -> bool:
                # The event loop resets those for whom none is left, and may have one again later.
                clients.enter_context(silent(service, 1))
                return bool(logged(service, "descriptors_exhausted"))

            wait_for(one_more_and_it_is_noticed)
            said = logged(service, "descriptors_exhausted")[0]
            assert (said["error"], said["limit"]) == ("Too many open files", left)
            wait_for(lambda: serves(service))
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (hard, hard))
        wait_for(lambda: serves(service))
        written = len(logged(service, "descriptors_exhausted"))
        assert all(serves(service) for _ in range(5))
        assert len(logged(service, "descriptors_exhausted")) == written
    finally:
        shop.__exit__()
