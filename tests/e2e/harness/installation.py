"""The shop installed in a namespace, and the names its charts give to what they make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.harness.namespace import Namespace
from tests.e2e.harness.pod import Pod
from tests.e2e.harness.programs import ROOT
from tests.e2e.harness.release import Release
from tests.e2e.harness.shop import Service
from tests.e2e.harness.waiting import eventually

from devkit.services import SERVICES

RELEASE: Final = "shop"
CHART: Final = ROOT / "charts" / "shop"
VALUES: Final = Path(__file__).parents[1] / "values.yaml"
BUILT: Final = {
    "shop/order:e2e": "apps/order/Dockerfile",
    "shop/invoice:e2e": "apps/invoice/Dockerfile",
}
OFFICIAL: Final = ("postgres:18", "redis:8")
OBSERVABILITY_IMAGES: Final = ("prom/prometheus:v3.5.3", "jaegertracing/all-in-one:1.62.0")
PYTHON_IMAGE: Final = "shop/order:e2e"  # for pods of our own: it has Python and httpx
ORDER_PORT: Final = 3000
INVOICE_PORT: Final = 3001
ORDER_URL: Final = f"http://shop-order:{ORDER_PORT}"
INVOICE_URL: Final = f"http://shop-invoice:{INVOICE_PORT}"
INSTALL_SECONDS: Final = 300
ROLLOUT_SECONDS: Final = 240
# The container knows its password from a file only, which follows the Secret.
_REDIS_CLI: Final = 'REDISCLI_AUTH="$(cat /run/redis/password)" exec redis-cli "$@"'
STORES: Final = ("redis", "order-postgres", "invoice-postgres")


@dataclass(frozen=True)
class Shop:
    """One release of the shop's chart."""

    namespace: Namespace

    @property
    def release(self) -> Release:
        """The release as Helm knows it."""
        return Release(RELEASE, self.namespace, CHART)

    def install(self) -> None:
        """Install it from zero, and wait until all of it is ready."""
        self.release.install(f"--values={VALUES}", timeout_seconds=INSTALL_SECONDS)

    def upgrade(self, *options: str) -> None:
        """Upgrade it with the same values and ``options``, and wait until all of it is ready."""
        self.release.upgrade(f"--values={VALUES}", *options, timeout_seconds=INSTALL_SECONDS)

    def restart(self, *services: str) -> None:
        """Restart services, pod by pod, and wait until every pod is a new one."""
        deployments = deployments_of(services)
        self.namespace.kubectl("rollout", "restart", *deployments)
        for deployment in deployments:
            self.namespace.wait_rolled_out(deployment, timeout_seconds=ROLLOUT_SECONDS)

    def scale(self, pods: int) -> None:
        """Let each service have so many pods, and wait until exactly these serve."""
        self.namespace.kubectl("scale", *deployments_of(SERVICES), f"--replicas={pods}")
        for name in SERVICES:
            self.wait_serving(name, pods=pods, timeout_seconds=ROLLOUT_SECONDS)

    @contextmanager
    def orders(self, target: str = "service/shop-order") -> Iterator[Service]:
        """The order service through a port-forward; of one pod when it is named."""
        with (
            self.namespace.forward(target, ORDER_PORT) as forward,
            Service(forward.url) as service,
        ):
            yield service

    @contextmanager
    def invoices(self, target: str = "service/shop-invoice") -> Iterator[Service]:
        """The invoice service through a port-forward."""
        with (
            self.namespace.forward(target, INVOICE_PORT) as forward,
            Service(forward.url) as service,
        ):
            yield service

    def pods(self, name: str) -> list[Pod]:
        """The pods of ``order``, ``invoice`` or one of the stores."""
        component = "database" if name in STORES else "api"
        return self.namespace.pods(
            f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/name={name},"
            f"app.kubernetes.io/component={component}"
        )

    def uids(self, *names: str) -> set[str]:
        """Which pods there are, whatever their state: a pod that is made anew has another one."""
        return {pod.uid for name in names for pod in self.pods(name)}

    def wait_serving(self, name: str, *, pods: int, timeout_seconds: float) -> list[Pod]:
        """Wait until exactly so many pods of ``name`` exist and serve."""
        return eventually(
            lambda: self.pods(name),
            until=lambda seen: len(seen) == pods and all(pod.serving for pod in seen),
            what=f"{pods} serving pods of {name}",
            timeout_seconds=timeout_seconds,
        )

    def lock_keys(self) -> list[str]:
        """What the lock Redis holds for locks and for those who wait; the fence counter stays."""
        said = self.redis("--scan", "--pattern", "fencelock:*")
        return sorted(key for key in said.split() if key != "fencelock:fence")

    def redis(self, *command: str) -> str:
        """Ask the lock Redis."""
        (pod,) = self.pods("redis")
        return self.namespace.exec(pod.name, "sh", "-ec", _REDIS_CLI, "redis-cli", *command)


def deployments_of(services: Iterable[str]) -> list[str]:
    """The workloads of services, as kubectl is told."""
    return [f"deployment/{RELEASE}-{name}" for name in services]
