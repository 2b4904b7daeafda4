"""Both stores by TLS, with certificates on both sides, by the settings that the charts make.

What a chart renders is what the processes get: their variables, and their files where it mounts
them, but for the folder that all of that is in.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from tests.charts.rendering import RELEASE, Charts, Manifest, Values, of_kind, one
from tests.together.fixtures import nursery
from tests.together.processes import Nursery, Service
from tests.together.shop import create, new_order, wait_for
from tests.together.tls import Authority, Entrance, only_by_tls

from devkit.ports import HOST
from devkit.servers import PostgresServer, RedisServer
from devkit.services import SERVICES

__all__ = ["nursery"]

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the keys")

MOUNTED: Final = "/etc/shop/"
COMMAND_SECONDS: Final = 60.0
WAIT_SECONDS: Final = 1
# Where libpq looks by itself, there is nothing.
NO_HOME: Final = {"HOME": "/nowhere"}


@dataclass(frozen=True)
class Stores:
    """Both stores behind TLS, and the files of their clients as a pod has them."""

    postgres: PostgresServer
    redis: RedisServer
    databases: dict[str, str]
    database_port: Entrance
    redis_port: Entrance
    etc: Path
    others: Authority

    def values(self) -> Values:
        """What a user writes, once for both services."""
        services: dict[str, Values] = {name: self._of(name) for name in SERVICES}
        services["order"]["migrations"] = {"databaseWaitSeconds": WAIT_SECONDS}
        return {"redis": {"enabled": False}, **services}

    def _of(self, name: str) -> Values:
        files = {"tlsSecret": "clients", "clientCertificate": True}
        database = {
            "host": HOST,
            "port": self.database_port.port,
            "username": self.postgres.user,
            "password": self.postgres.password,
            "database": self.databases[name],
            "sslMode": "verify-full",
            **files,
        }
        locks = {
            "existingSecret": "",
            "host": HOST,
            "port": self.redis_port.port,
            "password": self.redis.password,
            "tls": True,
            **files,
        }
        return {
            "postgres": {"enabled": False},
            "externalDatabase": database,
            "externalRedis": locks,
        }

    def dsn(self, name: str) -> str:
        """The way to a database as a person types it."""
        account = f"{self.postgres.user}:{self.postgres.password}"
        port = self.database_port.port
        return f"postgresql://{account}@127.0.0.1:{port}/{self.databases[name]}"


DATABASE_FAULTS: Final[dict[str, Callable[[dict[str, str], Stores], dict[str, str]]]] = {
    "another authority": lambda _, stores: {"PGSSLROOTCERT": str(stores.others.certificate)},
    "no certificate": lambda _, stores: {
        name: str(stores.etc / "nothing") for name in ("PGSSLCERT", "PGSSLKEY")
    },
    "another host": lambda right, _: {
        "ORDER_DATABASE_URL": right["ORDER_DATABASE_URL"].replace("127.0.0.1", "localhost")
    },
}
REDIS_FAULTS: Final[dict[str, Callable[[str, Stores], str]]] = {
    "another authority": lambda url, stores: url.replace(
        f"{stores.etc}/redis-tls/ca.crt", str(stores.others.certificate)
    ),
    "no certificate": lambda url, _: url.partition("&")[0],
    "another host": lambda url, _: url.replace("127.0.0.1", "localhost"),
}


FAULTS: Final = pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("another authority", "certificate verify failed|certificate is not one to trust"),
        ("no certificate", "certificate required|handshake failure"),
        ("another host", "does not match host name|Hostname mismatch"),
    ],
)


@pytest.fixture(scope="module")
def stores(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
) -> Iterator[Stores]:
    folder = tmp_path_factory.mktemp("tls")
    ours, others = Authority(folder / "ours", "ours"), Authority(folder / "others", "others")
    server = ours.sign(folder / "server", "server", alternative="IP:127.0.0.1")
    etc = folder / "etc"
    for store in ("database", "redis"):
        ours.sign(etc / f"{store}-tls", "shop", alternative="DNS:shop")
    databases = {name: f"tls_{name}_{uuid.uuid4().hex}" for name in SERVICES}
    for name in databases.values():
        postgres_server.create_database(name)
    with (
        only_by_tls((HOST, postgres_server.port), server, postgres=True) as database_port,
        only_by_tls((HOST, redis_server.port), server, postgres=False) as redis_port,
    ):
        yield Stores(
            postgres_server, redis_server, databases, database_port, redis_port, etc, others
        )
    for name in databases.values():
        postgres_server.drop_database(name)


@dataclass(frozen=True)
class Pods:
    """The processes of a release's pods, with what its manifests give them."""

    manifests: list[Manifest]
    stores: Stores
    nursery: Nursery
    folder: Path

    def variables(self, kind: str, name: str) -> dict[str, str]:
        """The variables of a pod's container, with the Secrets that they name."""
        container: Any = self._found(kind, name)["spec"]["template"]["spec"]["containers"][0]
        held = {each["name"]: self._value(each) for each in container["env"]}
        there = f"{self.stores.etc}/"
        return {key: value.replace(MOUNTED, there) for key, value in held.items()} | NO_HOME

    def run(self, *words: str, **variables: str) -> tuple[int, str]:
        """Run a command of a service to its end; its exit status and what it wrote."""
        log = self.folder / f"{uuid.uuid4().hex}.log"
        pid = self.nursery.start(words[0], words[1:], variables, log)
        return self.nursery.wait(pid, timeout_seconds=COMMAND_SECONDS), log.read_text()

    def migrate(self, name: str) -> None:
        """Do what the Job of a release does."""
        status, said = self.run(name, "migrate", **self.variables("Job", f"{name}-migrate"))
        assert status == 0, said

    def wait_for_database(self, **variables: str) -> tuple[int, list[str]]:
        """Do what the Job does first; its exit status and the lines that it wrote."""
        template = self._found("Job", "order-migrate")["spec"]["template"]
        command = template["spec"]["initContainers"][0]["command"]
        done = subprocess.run(
            [sys.executable, *command[1:]],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
        return done.returncode, (done.stdout + done.stderr).splitlines()

    @contextmanager
    def serving(self, name: str, *, ready: bool = True, **variables: str) -> Iterator[Service]:
        """A service as a pod runs it, but for some variables."""
        environment = self.variables("Deployment", name) | variables
        service = Service(self.nursery, name, environment, self.folder / f"{name}.log")
        try:
            yield service.start(ready=ready)
        finally:
            service.kill()

    def _found(self, kind: str, name: str) -> Manifest:
        (found,) = (
            each
            for each in of_kind(self.manifests, kind)
            if each["metadata"]["name"].startswith(f"{RELEASE}-{name}")
        )
        return found

    def _value(self, variable: dict[str, Any]) -> str:
        if "value" in variable:
            return str(variable["value"])
        reference = variable["valueFrom"]["secretKeyRef"]
        secret = one(self.manifests, "Secret", reference["name"])
        return base64.b64decode(secret["data"][reference["key"]]).decode()


@pytest.fixture
def pods(charts: Charts, stores: Stores, nursery: Nursery, tmp_path: Path) -> Pods:
    return Pods(charts.render("shop", stores.values()), stores, nursery, tmp_path)


def said_of(service: Service, event: str) -> list[str]:
    """The reasons that a service's log gives in lines of this name."""
    return [
        each.get("error") or each["reason"] for each in service.events() if each["event"] == event
    ]


def test_the_shop_works_on_stores_that_want_certificates(pods: Pods, stores: Stores) -> None:
    for name in SERVICES:
        pods.migrate(name)
    with (
        pods.serving("invoice") as invoice,
        pods.serving("order", ORDER_INVOICE_URL=invoice.url) as order,
    ):
        create(order, quantity=3)
    assert stores.redis_port.known >= 2  # each service asks about the lock
    assert stores.database_port.known >= 4
    databases = ("--order-dsn", stores.dsn("order"), "--invoice-dsn", stores.dsn("invoice"))
    found = pods.run("order", "audit", *databases, **pods.variables("Deployment", "order"))
    assert found[0] == 0, found
    assert "1 order" in found[1]


@FAULTS
def test_what_is_wrong_with_the_way_to_a_database_is_said_in_one_line(
    pods: Pods, fault: str, said: str
) -> None:
    right = pods.variables("Deployment", "order")
    wrong = right | DATABASE_FAULTS[fault](right, pods.stores)
    status, line = pods.run("order", "migrate", **wrong)
    assert status == 1
    assert re.search(said, json.loads(line)["error"])

    dsn = wrong["ORDER_DATABASE_URL"]
    status, lines = pods.wait_for_database(**wrong, DATABASE_URI=dsn)
    assert status == 1
    # Once when it gives up, and once before if the first try left time for another.
    assert 1 <= len(lines) <= 2, lines
    assert all(re.search(said, each) for each in lines)

    status, line = pods.run("order", "audit", "--order-dsn", dsn, "--invoice-dsn", dsn, **wrong)
    assert (status, line.count("\n")) == (2, 1), line
    assert re.search(said, line)

    with pods.serving("order", ready=False, **wrong) as order:
        wait_for(lambda: said_of(order, "waiting_for_schema"))
    assert re.search(said, said_of(order, "waiting_for_schema")[0])


@FAULTS
def test_what_is_wrong_with_the_way_to_the_locks_is_said_in_one_line(
    pods: Pods, fault: str, said: str
) -> None:
    pods.migrate("order")
    url = pods.variables("Deployment", "order")["ORDER_REDIS_URL"]
    with pods.serving("order", ORDER_REDIS_URL=REDIS_FAULTS[fault](url, pods.stores)) as order:
        answer = httpx.post(f"{order.url}/orders", json=new_order(), timeout=20.0, trust_env=False)
    assert answer.status_code == 503
    assert re.search(said, said_of(order, "locks_unavailable")[0])
