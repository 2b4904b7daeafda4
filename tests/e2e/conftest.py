"""One cluster for the session, one installed shop in it, and evidence when a test fails.

E2E_REQUIRED=1     a missing program is a failure; without it the tests are skipped
E2E_CLUSTER=name   use this running kind cluster, in a namespace of its own, and leave it
E2E_KEEP=1         leave the cluster and the namespace as they are at the end
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest
from tests.e2e.harness import artifacts, cluster
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.installation import BUILT, OBSERVABILITY_IMAGES, OFFICIAL, Shop
from tests.e2e.harness.namespace import Namespace
from tests.e2e.harness.programs import ROOT, CommandFailed, missing, run
from tests.e2e.harness.shop import Service

ARTIFACTS: Final = ROOT / "artifacts" / "e2e"
TEST_SECONDS: Final = 1200
IMAGES_SECONDS: Final = 800
# The order is that of the shop's life: from its installation to its removal, the cheap first.
ORDER: Final = (
    "install",
    "orders",
    "network",
    "observability",
    "upgrade",
    "rollout",
    "crash",
    "stores",
    "backup",
    "rotation",
    "uninstall",
    "own_stores",
)
INSTALLED: Final = pytest.StashKey[Shop]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the tests of this folder into the order of the shop's life."""
    names = [f"test_{name}.py" for name in ORDER]
    ours = [item for item in items if is_ours(item)]
    for item in ours:
        item.add_marker(pytest.mark.timeout(TEST_SECONDS))
    ours.sort(key=lambda item: names.index(item.path.name))
    items[:] = [item for item in items if not is_ours(item)] + ours


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write down what the cluster was like when a test failed, before the next one changes it."""
    report = yield
    shop = item.config.stash.get(INSTALLED, None)
    if report.failed and shop is not None and is_ours(item):
        folder = ARTIFACTS / artifacts.folder_name(f"{item.path.stem}-{item.name}-{call.when}")
        artifacts.collect(shop.namespace, folder)
        report.sections.append(("evidence", str(folder)))
    return report


@pytest.fixture(scope="session")
def tools() -> None:
    """The programs that these tests drive are there; their runs are told, HTTP requests not."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if reason := obstacle():
        if os.environ.get("E2E_REQUIRED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    shutil.rmtree(ARTIFACTS, ignore_errors=True)


@pytest.fixture(scope="session")
def aside(tools: None) -> Iterator[ThreadPoolExecutor]:
    """For what goes on meanwhile: images are built and copied while the cluster begins."""
    with ThreadPoolExecutor() as executor:
        yield executor


@pytest.fixture(scope="session")
def built(aside: ThreadPoolExecutor) -> Future[None]:
    """The images of the services, on their way into the local engine."""
    return aside.submit(build_images)


@pytest.fixture(scope="session")
def kind_cluster(
    built: Future[None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A cluster of this session's own, or the one that E2E_CLUSTER names."""
    kubeconfig = tmp_path_factory.mktemp("kind") / "kubeconfig"
    if given := os.environ.get("E2E_CLUSTER"):
        yield cluster.attach(given, kubeconfig=kubeconfig)
        return
    name = f"shop-e2e-{secrets.token_hex(3)}"
    try:
        yield cluster.create(name, kubeconfig=kubeconfig)
    finally:
        if not keep():
            cluster.delete(name, kubeconfig=kubeconfig)


@pytest.fixture(scope="session")
def images(kind_cluster: Cluster, built: Future[None], aside: ThreadPoolExecutor) -> None:
    """Every image that the shop needs, in the cluster."""
    official = aside.submit(copy_official, kind_cluster, OFFICIAL)
    built.result(IMAGES_SECONDS)
    kind_cluster.load(list(BUILT))
    official.result(IMAGES_SECONDS)


@pytest.fixture(scope="session")
def observability_images(
    kind_cluster: Cluster, images: None, aside: ThreadPoolExecutor
) -> Future[None]:
    """What sees into the shop, on its way into the cluster while the shop is installed."""
    return aside.submit(copy_official, kind_cluster, OBSERVABILITY_IMAGES)


@pytest.fixture(scope="session")
def namespace(
    kind_cluster: Cluster, images: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Namespace]:
    """A namespace that refuses every pod below Pod Security ``restricted``."""
    name = f"e2e-{secrets.token_hex(3)}"
    with Namespace(kind_cluster, name, logs=tmp_path_factory.mktemp("forwards")) as made:
        made.create()
        yield made
        if "E2E_CLUSTER" in os.environ and not keep():
            made.delete(timeout_seconds=180)


@pytest.fixture(scope="session")
def shop(
    namespace: Namespace, observability_images: Future[None], pytestconfig: pytest.Config
) -> Shop:
    """The shop, installed from zero."""
    run("make", "charts", timeout_seconds=120)
    installed = Shop(namespace)
    pytestconfig.stash[INSTALLED] = installed
    installed.install()
    return installed


@pytest.fixture
def orders(shop: Shop) -> Iterator[Service]:
    """The order service through a port-forward of this test's own."""
    with shop.orders() as service:
        yield service


@pytest.fixture
def invoices(shop: Shop) -> Iterator[Service]:
    """The invoice service through a port-forward of this test's own."""
    with shop.invoices() as service:
        yield service


def is_ours(item: pytest.Item) -> bool:
    """Whether a test is one of this folder that needs the cluster."""
    here = item.path.parent == Path(__file__).parent
    return here and item.get_closest_marker("e2e") is not None


def obstacle() -> str:
    """Why there can be no cluster here; empty when there can."""
    if absent := missing():
        return f"not on the PATH: {', '.join(absent)}"
    try:
        run("docker", "info", timeout_seconds=60)
    except CommandFailed as failure:
        return f"no container engine answers: {failure}"
    return ""


def build_images() -> None:
    """Build the images of the services."""
    for image, dockerfile in BUILT.items():
        cluster.build(image, dockerfile=dockerfile)


def copy_official(into: Cluster, images: Sequence[str]) -> None:
    """Fetch official images, unless they are here, and copy them into the cluster."""
    for image in images:
        cluster.pull(image)
    into.load(images)


def keep() -> bool:
    """Whether everything is to be left as it is at the end."""
    return os.environ.get("E2E_KEEP") == "1"
