"""A shop on stores that are not the charts': by TLS with certificates, its locks with Sentinels."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.e2e.harness.installation import INSTALL_SECONDS, VALUES, Shop
from tests.e2e.harness.pod import Pod
from tests.e2e.harness.programs import CommandFailed
from tests.together.tls import Authority

from devkit.services import SERVICES

MANIFESTS: Final = Path(__file__).with_suffix(".yaml")
STORES: Final = ("postgres", "locks")
SERVERS: Final = tuple(f"locks-{number}.locks" for number in range(3))
NAME: Final = "locks"
SENTINEL_PORT: Final = 26379
# Where a chart mounts the Secret of externalRedis.tlsSecret.
MOUNTED: Final = "/etc/shop/redis-tls"
FILES: Final = ("ca.crt", "tls.crt", "tls.key")
_CLI: Final = (
    "redis-cli --tls --cacert /tls/ca.crt --cert /tls/tls.crt --key /tls/tls.key --no-auth-warning "
    '-a "$PASSWORD" -h "$(sh /config/master)" "$@"'
)

_ASK_SENTINELS: Final = (
    "for number in 0 1 2; do redis-cli --tls --cacert /tls/ca.crt --cert /tls/tls.crt "
    '--key /tls/tls.key -h "locks-$number.locks" -p 26379 INFO sentinel || true; done'
)


def values(password: str) -> dict[str, Any]:
    """What a user writes to reach these stores."""
    hosts = ",".join(f"{server}:{SENTINEL_PORT}" for server in SERVERS)
    files = {"ssl_ca_certs": "ca.crt", "ssl_certfile": "tls.crt", "ssl_keyfile": "tls.key"}
    query = "&".join(f"{option}={MOUNTED}/{file}" for option, file in files.items())
    shown = {"tlsSecret": "clients", "clientCertificate": True}
    locks = {
        "existingSecret": "",
        "uri": f"rediss+sentinel://:{password}@{hosts}/{NAME}?{query}",
        "morePorts": [SENTINEL_PORT],
        **shown,
    }

    def database(name: str) -> dict[str, Any]:
        return {
            "host": "postgres",
            "username": "shop",
            "password": password,
            "database": name,
            "sslMode": "verify-full",
            **shown,
        }

    services = {
        name: {
            "postgres": {"enabled": False},
            "externalDatabase": database(name),
            "externalRedis": locks,
            "tracing": {"endpoint": ""},
        }
        for name in SERVICES
    }
    return {"redis": {"enabled": False}, **services}


@dataclass(frozen=True)
class OwnStores(Shop):
    """The shop beside stores of its owner's own."""

    folder: Path

    def bring_stores(self) -> str:
        """Make the certificates and the stores; returns the password of all of them."""
        password = secrets.token_hex(16)
        authority = Authority(self.folder / "authority", "private")
        names = ",".join(f"DNS:{name}" for name in ("postgres", *SERVERS))
        server = authority.sign(self.folder / "server", "server", alternative=names)
        # PostgreSQL wants the role's name in it.
        client = authority.sign(self.folder / "client", "shop", alternative="DNS:shop")
        self._secret("store-tls", server, f"--from-literal=password={password}")
        self._secret("clients", client)
        self.namespace.kubectl("apply", f"--filename={MANIFESTS}")
        return password

    def install_beside(self, password: str) -> None:
        """Install the shop, and wait until all of it is ready."""
        path = self.folder / "values.json"
        path.write_text(json.dumps(values(password)))
        for name in STORES:
            self.namespace.wait_rolled_out(f"statefulset/{name}", timeout_seconds=INSTALL_SECONDS)
        options = (f"--values={VALUES}", f"--values={path}")
        self.release.install(*options, timeout_seconds=INSTALL_SECONDS)

    def redis(self, *command: str) -> str:
        """Ask the server that is the master now."""
        return self._in_a_server(_CLI, *command)

    def master(self) -> Pod:
        """The pod of the server that the Sentinels name."""
        named = self._in_a_server("sh /config/master").strip().partition(".")[0]
        (found,) = (pod for pod in self._servers() if pod.name == named)
        return found

    def sentinels_decide(self) -> bool:
        """Whether each Sentinel does: one that was kept from running does not for half a minute."""
        return self._in_a_server(_ASK_SENTINELS).count("sentinel_tilt:0") == len(SERVERS)

    def crash(self, pod: Pod) -> None:
        """End a server and its Sentinel without a warning; they are started again at once."""
        assert pod.node is not None
        for container in pod.containers:
            self.namespace.cluster.kill_container(container, node=pod.node)

    def _in_a_server(self, script: str, *words: str) -> str:
        """Run a script in any that runs: one that was crashed a moment ago may seem to."""
        failures = []
        for pod in self._servers():
            where = ("exec", pod.name, "--container=redis", "--")
            try:
                return self.namespace.kubectl(*where, "sh", "-ec", script, "sh", *words)
            except CommandFailed as failure:
                failures.append(failure)
        raise ExceptionGroup("no server runs", failures)

    def _servers(self) -> list[Pod]:
        return self.namespace.pods("app=locks")

    def _secret(self, name: str, folder: Path, *options: str) -> None:
        files = (f"--from-file={folder / file}" for file in FILES)
        self.namespace.kubectl("create", "secret", "generic", name, *files, *options)
