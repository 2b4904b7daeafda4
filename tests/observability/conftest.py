"""One watched shop for all tests that only look."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.observability.holder import contended
from tests.observability.otlp import Receiver
from tests.observability.rule_files import RULE_FILES
from tests.observability.stage import Stage, jaeger_if, missing, staged, traceparent, without

from devkit.observability.programs import JAEGER, PROMETHEUS
from devkit.observability.servers import JaegerServer, PrometheusServer

RUSH = 12
OBSERVERS = {"prometheus", "jaeger", "promtool"}


@pytest.hookimpl(tryfirst=True)  # before the markers are read to choose the tests
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need an observer, so that those without can run anywhere."""
    for item in items:
        if isinstance(item, pytest.Function) and OBSERVERS & set(item.fixturenames):
            item.add_marker(pytest.mark.observed)


@pytest.fixture(scope="package")
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """A shop after a known load: ordinary days, a rush on one order and a wait, lost replies."""
    folder = tmp_path_factory.mktemp("observed")
    observed = any(item.get_closest_marker("observed") for item in request.session.items)
    with (
        jaeger_if(folder / "jaeger", wanted=observed and missing(JAEGER) is None) as jaeger,
        Receiver(forward_to=jaeger.otlp_url if jaeger else None) as receiver,
        staged(
            folder,
            # The first order's replies are lost, one for each try: recovery has something to do.
            settings={"INVOICE_FAILPOINTS": "invoice.before_reply=drop*3"},
            rules=RULE_FILES,
            receiver=receiver,
            jaeger=jaeger,
            prometheus=observed and missing(PROMETHEUS) is None,
        ) as made,
    ):
        known_load(made, receiver)
        yield made


@pytest.fixture
def prometheus(stage: Stage) -> PrometheusServer:
    """The Prometheus that watches the shop."""
    if stage.prometheus is None:
        without(PROMETHEUS)
    return stage.prometheus


@pytest.fixture
def jaeger(stage: Stage) -> JaegerServer:
    """The Jaeger that the shop's spans arrive at."""
    if stage.jaeger is None:
        without(JAEGER)
    return stage.jaeger


def known_load(stage: Stage, receiver: Receiver) -> None:
    """What every test may rely on having happened."""
    assert stage.traffic.create().status_code == 202
    stage.traffic.days(6)
    order = stage.traffic.create(headers=traceparent()[1]).json()["id"]
    assert 204 in stage.traffic.rush(order, RUSH)
    contended(stage, receiver)
    stage.traffic.days(6)
