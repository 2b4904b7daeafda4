"""One watched shop for all tests that only look."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.observability.otlp import Receiver
from tests.observability.rule_files import RULE_FILES
from tests.observability.stage import Stage, jaeger_if_here, missing, staged, traceparent

from devkit.observability.programs import JAEGER, PROMETHEUS
from devkit.observability.servers import JaegerServer, PrometheusServer

RUSH = 12


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A shop after a known load: ordinary days, a rush on one order, and lost replies."""
    folder = tmp_path_factory.mktemp("observed")
    with (
        jaeger_if_here(folder / "jaeger") as jaeger,
        Receiver(forward_to=jaeger.otlp_url if jaeger else None) as receiver,
        staged(
            folder,
            # The first order's replies are lost, one for each try: recovery has something to do.
            settings={"INVOICE_FAILPOINTS": "invoice.before_reply=drop*3"},
            rules=RULE_FILES,
            receiver=receiver,
            jaeger=jaeger,
        ) as made,
    ):
        known_load(made)
        yield made


@pytest.fixture
def prometheus(stage: Stage) -> PrometheusServer:
    """The Prometheus that watches the shop."""
    if stage.prometheus is None:
        pytest.skip(str(missing(PROMETHEUS)))
    return stage.prometheus


@pytest.fixture
def jaeger(stage: Stage) -> JaegerServer:
    """The Jaeger that the shop's spans arrive at."""
    if stage.jaeger is None:
        pytest.skip(str(missing(JAEGER)))
    return stage.jaeger


def known_load(stage: Stage) -> None:
    """What every test may rely on having happened."""
    assert stage.traffic.create().status_code == 202
    stage.traffic.days(6)
    order = stage.traffic.create(headers=traceparent()[1]).json()["id"]
    assert 204 in stage.traffic.rush(order, RUSH)
    stage.traffic.days(6)
