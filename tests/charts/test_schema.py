"""Wrong values are refused, and the message says which."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from tests.charts.combinations import HTTP_ROUTE
from tests.charts.rendering import CHARTS, Charts, Refused, Values
from tests.e2e.harness.programs import ROOT

from devkit.services import SERVICES

NEGATIVES: dict[str, tuple[str, Values, str]] = {
    "nothing where something is needed": ("order", {"networkPolicy": None}, "networkPolicy"),
    "no subchart at all, instead of its switch": ("shop", {"redis": None}, "'/redis': missing"),
    "no subchart of a subchart": ("shop", {"order": {"postgres": None}}, "'/postgres': missing"),
    "more pods than Kubernetes can count": ("order", {"replicaCount": 2**32}, "/replicaCount"),
    "fewer pods than none": ("order", {"replicaCount": -1}, "/replicaCount"),
    "half a pod": ("order", {"replicaCount": 1.5}, "/replicaCount"),
    "a class that is no name": ("redis", {"priorityClassName": "a: b"}, "/priorityClassName"),
    "a text of two lines": ("order", {"image": {"repository": "a\nb"}}, "/image/repository"),
    "an address without a scheme": (
        "order",
        {"invoice": {"url": "invoice:3001"}},
        'invoice.url is "invoice:3001": it must start with http:// or https://',
    ),
    "nothing deep inside": (
        "shop",
        {"order": {"shutdown": {"drainSeconds": None}}},
        "drainSeconds",
    ),
    "a threshold of an alert that has none": (
        "order",
        {"alerts": {"thresholds": {"OrderDown": 2}}},
        "OrderDown",
    ),
    "a pull secret that is neither": (
        "order",
        {"global": {"imagePullSecrets": [3]}},
        "PullSecrets",
    ),
    "a limit as long as the one around it": (
        "order",
        {"config": {"invoiceTimeoutSeconds": 20}},
        "config.invoiceTimeoutSeconds is 20: it must be less than config.requestTimeoutSeconds",
    ),
    "a port of the nodes that nobody opens": (
        "order",
        {"service": {"nodePort": 30080}},
        "service.type NodePort or LoadBalancer",
    ),
    "an ingress without a host": ("order", {"ingress": {"enabled": True}}, "needs ingress.hosts"),
    "a route without a gateway": (
        "order",
        {"httpRoute": {"enabled": True}},
        "needs httpRoute.parentRefs",
    ),
    "a Secret that only Redis is told of": (
        "shop",
        {"redis": {"auth": {"existingSecret": "theirs"}}},
        "set global.lockRedis.existingSecret=theirs instead",
    ),
    "a typo at the top": ("order", {"replicaCuont": 3}, "replicaCuont"),
    "a typo in a section": ("order", {"image": {"tagg": "1"}}, "tagg"),
    "a typo in a service inside the shop": ("shop", {"order": {"replicas": 1}}, "replicas"),
    "a typo in a store two charts down": (
        "shop",
        {"order": {"postgres": {"auth": {"pasword": "x"}}}},
        "pasword",
    ),
    "a typo in a global": ("shop", {"global": {"imageRegistri": "x"}}, "imageRegistri"),
    "a typo in resources": ("redis", {"resources": {"limit": {}}}, "limit"),
    "a port beyond the last": ("order", {"service": {"port": 70000}}, "/service/port"),
    "a store's port beyond the last": ("postgres", {"port": 70000}, "/port"),
    "a privileged port": ("order", {"service": {"port": 80}}, "/service/port"),
    "a number as text": ("order", {"replicaCount": "two"}, "replicaCount"),
    "a switch as text": ("order", {"autoscaling": {"enabled": "yes"}}, "autoscaling"),
    "an unknown pull policy": ("redis", {"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    "a digest that is none": ("order", {"image": {"digest": "abc"}}, "digest"),
    "an unknown log level": ("order", {"config": {"logLevel": "loud"}}, "logLevel"),
    "no waiting at all": ("order", {"config": {"requestTimeoutSeconds": 0}}, "requestTimeout"),
    "a size of memory that Redis does not know": ("redis", {"maxMemory": "1 GiB"}, "maxMemory"),
    "both a bundled and an external database": (
        "order",
        {"externalDatabase": {"host": "db"}},
        "postgres.enabled and externalDatabase exclude each other",
    ),
    "both a bundled and an external Redis": (
        "invoice",
        {"redis": {"enabled": True}},
        "redis.enabled and externalRedis exclude each other",
    ),
    "no database": ("order", {"postgres": {"enabled": False}}, "externalDatabase.existingSecret"),
    "no Redis": ("order", {"redis": {"enabled": False}}, "externalRedis.existingSecret"),
    "a Secret and a host": (
        "order",
        {
            "postgres": {"enabled": False},
            "externalDatabase": {"existingSecret": "s", "host": "db"},
        },
        "exclude each other",
    ),
    "a host and a URI": (
        "order",
        {"redis": {"enabled": False}, "externalRedis": {"host": "here", "uri": "redis://there"}},
        "externalRedis.host and externalRedis.uri exclude each other",
    ),
    "a Secret and a URI": (
        "invoice",
        {"externalRedis": {"existingSecret": "s", "uri": "redis://there"}},
        "externalRedis.existingSecret and externalRedis.uri exclude each other",
    ),
    "both a bundled Redis and the URI of another": (
        "order",
        {"externalRedis": {"uri": "redis://there"}},
        "redis.enabled and externalRedis exclude each other",
    ),
    "both the shop's Redis and the URI of another": (
        "shop",
        {name: {"externalRedis": {"uri": "redis://there"}} for name in SERVICES},
        "redis.enabled and order.externalRedis.host or .uri exclude each other",
    ),
    "a hook that would wait for its own database": (
        "order",
        {"migrations": {"hook": True}},
        "migrations.hook needs externalDatabase.existingSecret",
    ),
    "too little time to stop": (
        "order",
        {"terminationGracePeriodSeconds": 10},
        "terminationGracePeriodSeconds is 10",
    ),
    "more time to stop than the pod gets": (
        "invoice",
        {"shutdown": {"requestSeconds": 60}},
        "terminationGracePeriodSeconds is 60",
    ),
    "fewer pods at most than at least": (
        "order",
        {"autoscaling": {"enabled": True, "minReplicas": 4, "maxReplicas": 3}},
        "autoscaling.maxReplicas",
    ),
    "a lock Redis for one service alone": (
        "shop",
        {"order": {"redis": {"enabled": True}, "externalRedis": {"existingSecret": ""}}},
        "/order/redis/enabled",
    ),
    "two lock Redises": (
        "shop",
        {"invoice": {"externalRedis": {"existingSecret": "another"}}},
        "must share one lock Redis",
    ),
    "a lock Redis nobody uses": (
        "shop",
        {name: {"externalRedis": {"existingSecret": "other"}} for name in SERVICES},
        "switch redis off",
    ),
    "no lock Redis": ("shop", {"redis": {"enabled": False}}, "redis.enabled is false"),
    "an invoice service nobody can find": (
        "shop",
        {"invoice": {"service": {"port": 4000}}},
        "the invoice service answers at http://rel-invoice:4000",
    ),
    "TLS to a bundled PostgreSQL, which has none": (
        "order",
        {"externalDatabase": {"sslMode": "verify-full"}},
        "postgres.enabled: the bundled server speaks no TLS",
    ),
    "TLS to the shop's own Redis, which has none": (
        "shop",
        {name: {"externalRedis": {"tls": True}} for name in ("order", "invoice")},
        "the bundled Redis speaks no TLS",
    ),
    "an authority for a Redis that is not encrypted": (
        "order",
        {"redis": {"enabled": False}, "externalRedis": {"host": "r", "tlsSecret": "t"}},
        "externalRedis.tlsSecret needs externalRedis.tls",
    ),
    "an authority that nobody asks": (
        "order",
        {"postgres": {"enabled": False}, "externalDatabase": {"host": "h", "tlsSecret": "t"}},
        "externalDatabase.tlsSecret needs externalDatabase.sslMode",
    ),
    "nobody to trust": (
        "order",
        {
            "postgres": {"enabled": False},
            "externalDatabase": {"host": "h", "sslMode": "verify-full"},
        },
        "sslMode verify-full needs externalDatabase.tlsSecret",
    ),
    "a certificate that is nowhere": (
        "order",
        {
            "postgres": {"enabled": False},
            "externalDatabase": {"existingSecret": "s", "clientCertificate": True},
        },
        "externalDatabase.clientCertificate needs externalDatabase.tlsSecret",
    ),
    "a volume of no size": (
        "postgres",
        {"persistence": {"size": "abc"}},
        "/persistence/size",
    ),
    "a toleration that is none": ("shop", {"order": {"tolerations": ["x"]}}, "/tolerations/0"),
    "a rule that is none": ("shop", {"backup": {"extraEgress": ["x"]}}, "/backup/extraEgress/0"),
    "two ports in one": ("order", {"metrics": {"port": 3000}}, "are both 3000"),
    "a route and a path that disagree": (
        "order",
        HTTP_ROUTE | {"config": {"rootPath": "/elsewhere"}},
        "config.rootPath is /elsewhere, but clients reach the service at /shop",
    ),
    "two paths for a service that knows one": (
        "order",
        {
            "ingress": {
                "enabled": True,
                "hosts": [{"host": "a", "path": "/a"}, {"host": "b", "path": "/b"}],
            }
        },
        "have the paths /a, /b",
    ),
    "a host that is none": (
        "order",
        {"ingress": {"enabled": True, "hosts": [{"host": "bücher.example"}]}},
        "/ingress/hosts/0/host",
    ),
    "a path with a space": ("order", {"httpRoute": {"path": "/a b"}}, "/httpRoute/path"),
    "a share of pods that is none": (
        "order",
        {"podDisruptionBudget": {"maxUnavailable": "half"}},
        "maxUnavailable",
    ),
    "a name that no resource may have": (
        "order",
        {"fullnameOverride": "My_Shop"},
        "fullnameOverride",
    ),
    "a label that is none": ("order", {"commonLabels": {"team": "-a-"}}, "/commonLabels/team"),
    "a label's name that is none": ("shop", {"global": {"commonLabels": {"a b": "c"}}}, "a b"),
    "a schedule that is none": ("shop", {"backup": {"schedule": "at night"}}, "/backup/schedule"),
    "an upload by nobody": (
        "shop",
        {"backup": {"upload": {"command": ["copy"]}}},
        "need backup.upload.image.repository",
    ),
    "an upload by any version": (
        "shop",
        {"backup": {"upload": {"image": {"repository": "up"}}}},
        "needs backup.upload.image.tag",
    ),
    "an upload without a way out": (
        "shop",
        {"backup": {"enabled": True, "upload": {"image": {"repository": "up", "tag": "1"}}}},
        "backup.upload needs backup.extraEgress",
    ),
    "two trace backends": (
        "observability",
        {"jaeger": {"enabled": True}},
        "tempo.enabled and jaeger.enabled exclude each other",
    ),
}


@pytest.mark.parametrize("name", NEGATIVES)
def test_is_refused(charts: Charts, name: str) -> None:
    chart, values, phrase = NEGATIVES[name]
    with pytest.raises(Refused) as refusal:
        charts.render(chart, values)
    assert phrase in str(refusal.value)


def sections(schema: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every section that a schema knows the keys of."""
    inside = [
        deeper
        for name, inner in schema.get("properties", {}).items()
        for deeper in sections(inner, (*path, name))
    ]
    closed = schema.get("additionalProperties") is False
    return [path, *inside] if closed else inside


@pytest.mark.parametrize("chart", CHARTS)
def test_no_section_takes_a_key_it_does_not_know(chart: str) -> None:
    schema = json.loads((ROOT / "charts" / chart / "values.schema.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    for path in sections(schema):
        values: Values = {"typpo": 1}
        for name in reversed(path):
            values = {name: values}
        said = [error.message for error in validator.iter_errors(values)]
        assert any("typpo" in message for message in said), path
