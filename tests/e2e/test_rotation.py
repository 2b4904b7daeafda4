"""Other passwords for Redis and both databases, under load, as docs/kubernetes.md says."""

from __future__ import annotations

import json
import secrets
from typing import Final

import pytest
from tests.e2e.harness.installation import (
    ORDER_URL,
    PYTHON_IMAGE,
    STORES,
    Shop,
)
from tests.e2e.harness.loading import under_load
from tests.e2e.harness.programs import CommandFailed
from tests.e2e.harness.settled import assert_settled
from tests.e2e.harness.waiting import eventually

from devkit.services import SERVICES

pytestmark = pytest.mark.e2e

# The kubelet looks at Secrets once a minute.
FOLLOWED_SECONDS: Final = 150


def sql(shop: Shop, service: str, *statements: str) -> str:
    """Ask a database as the role that it was made with, over its socket."""
    (pod,) = shop.pods(f"{service}-postgres")
    ask = 'exec psql -v ON_ERROR_STOP=1 -qAt -U "$POSTGRES_USER" -d "$POSTGRES_DB"'
    return shop.namespace.kubectl(
        "exec", "--stdin", pod.name, "--", "sh", "-c", ask, stdin=";\n".join(statements) + ";\n"
    )


def log_in(shop: Shop, service: str, role: str, password: str) -> str:
    """Log in with a password: from the pod itself, but not over loopback, which asks for none."""
    (pod,) = shop.pods(f"{service}-postgres")
    url = f"postgresql://{role}:{password}@$(hostname -i)/$POSTGRES_DB?connect_timeout=10"
    ask = f'exec psql -Atc "SELECT current_user" "{url}"'
    return shop.namespace.exec(pod.name, "sh", "-c", ask).strip()


def test_every_password_is_changed_without_a_failed_request(shop: Shop) -> None:
    old = {name: shop.namespace.secrets()[f"shop-{name}"]["password"] for name in STORES}
    new = {name: secrets.token_hex(16) for name in STORES}
    roles = {service: f"{service}_b" for service in SERVICES}

    with under_load(shop.namespace, url=ORDER_URL, image=PYTHON_IMAGE, workers=4) as load:
        shop.redis("ACL", "SETUSER", "default", f">{new['redis']}")
        for service, role in roles.items():
            create = f"CREATE ROLE {role} LOGIN PASSWORD '{new[f'{service}-postgres']}'"
            sql(
                shop,
                service,
                f'{create} IN ROLE "{service}"',
                f'ALTER ROLE {role} SET role TO "{service}"',
            )
        for name in STORES:
            patch = json.dumps({"stringData": {"password": new[name]}})
            shop.namespace.kubectl("patch", "secret", f"shop-{name}", f"--patch={patch}")
        shop.upgrade(
            *(f"--set={name}.postgres.auth.username={role}" for name, role in roles.items())
        )
        shop.restart(*SERVICES)
        (pod,) = shop.pods("redis")
        eventually(
            lambda: shop.namespace.exec(pod.name, "cat", "/run/redis/password"),
            until=lambda held: held == new["redis"],
            what="the new password in the pod of Redis",
            timeout_seconds=FOLLOWED_SECONDS,
        )
        shop.redis("ACL", "SETUSER", "default", f"<{old['redis']}")
        for service in SERVICES:
            sql(shop, service, f'ALTER ROLE "{service}" PASSWORD NULL')

    assert load.result["failed"] == 0, load.result["failures"]
    assert_settled(shop, load.result["orders"])
    for service, role in roles.items():
        assert log_in(shop, service, role, new[f"{service}-postgres"]) == service
        with pytest.raises(CommandFailed, match="authentication failed"):
            log_in(shop, service, service, old[f"{service}-postgres"])
    assert shop.namespace.secrets()["shop-redis"]["password"] == new["redis"]
    refused = "redis-cli --no-auth-warning -a " + old["redis"] + " ping 2>&1"
    assert "WRONGPASS" in shop.namespace.exec(pod.name, "sh", "-c", refused)
    name_the_first_role(shop, new)


def name_the_first_role(shop: Shop, passwords: dict[str, str]) -> None:
    """The next rotation, whose other role is there already: what is installed next logs in so."""
    for service in SERVICES:
        sql(
            shop, service, f"ALTER ROLE \"{service}\" PASSWORD '{passwords[f'{service}-postgres']}'"
        )
    shop.upgrade()
