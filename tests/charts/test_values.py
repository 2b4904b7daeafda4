"""Every key of every values file changes what is installed: none is forgotten or dead."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.charts.combinations import EXTERNAL_DATABASE, HTTP_ROUTE, INGRESS, SECRETS, SHOP
from tests.charts.rendering import Charts, Values, load_all, merged
from tests.e2e.harness.programs import ROOT

THEIR_REDIS: Values = {
    "redis": {"enabled": False},
    "externalRedis": {"existingSecret": "", "host": "redis.example.com", "password": "p"},
}
THEIR_DATABASE: Values = {
    "postgres": {"enabled": False},
    "externalDatabase": {"existingSecret": "one"},
}
# Fixed, as a random password would make every rendering differ from every other.
FIXED: dict[str, Values] = {
    "redis": {"auth": {"password": "r"}},
    "postgres": {"auth": {"password": "p"}},
    "order": {"postgres": {"auth": {"password": "p"}}, "redis": {"auth": {"password": "r"}}},
    "invoice": {"postgres": {"auth": {"password": "p"}}},
    "shop": {
        "order": {"postgres": {"auth": {"password": "p"}}},
        "invoice": {"postgres": {"auth": {"password": "p"}}},
        "redis": {"auth": {"password": "r"}},
    },
    "observability": {"grafana": {"auth": {"password": "g"}}},
}
TOKENS: Values = {
    "auth": {
        "required": True,
        "existingSecret": "tokens",
        "oidc": {"issuer": "issuer", "audience": "shop", "jwksUrl": "https://issuer.example/keys"},
    }
}
# What must be set for a key to have a say.
CONTEXT: dict[str, Values] = {
    "externalDatabase.": EXTERNAL_DATABASE,
    "externalDatabase.existingSecret": THEIR_DATABASE,
    "externalRedis.": THEIR_REDIS,
    "externalRedis.uri": {
        "redis": {"enabled": False},
        "externalRedis": {"existingSecret": "", "uri": "redis://here:6379"},
    },
    "externalRedis.existingSecret": {
        "redis": {"enabled": False},
        "externalRedis": {"existingSecret": "one"},
    },
    "externalDatabase.tlsSecret": THEIR_DATABASE,
    "externalDatabase.sslMode": THEIR_DATABASE,
    "externalDatabase.clientCertificate": merged(
        THEIR_DATABASE, {"externalDatabase": {"tlsSecret": "certificates"}}
    ),
    "externalRedis.tlsSecret": merged(THEIR_REDIS, {"externalRedis": {"tls": True}}),
    "externalRedis.clientCertificate": merged(
        THEIR_REDIS, {"externalRedis": {"tls": True, "tlsSecret": "certificates"}}
    ),
    "service.nodePort": {"service": {"type": "NodePort"}},
    "service.externalTrafficPolicy": {"service": {"type": "LoadBalancer"}},
    "service.loadBalancer": {"service": {"type": "LoadBalancer"}},
    "ingress.": INGRESS,
    "backup.": {"backup": {"enabled": True}},
    "backup.upload.": SHOP["backup"],
    "httpRoute.": HTTP_ROUTE,
    "migrations.hook": SECRETS,
    "autoscaling.": {"autoscaling": {"enabled": True}},
    "metrics.serviceMonitor.": {"metrics": {"serviceMonitor": {"enabled": True}}},
    "alerts.prometheusRule.": {"alerts": {"prometheusRule": {"enabled": True}}},
    "metrics.podMonitor.": {"metrics": {"podMonitor": {"enabled": True}}},
    "tracing.": {"tracing": {"endpoint": "http://here:4317"}},
    "auth.oidc.": TOKENS,
    "networkPolicy.authTo": TOKENS,
    "networkPolicy.databaseTo": EXTERNAL_DATABASE,
    "networkPolicy.redisTo": THEIR_REDIS,
    "networkPolicy.tracingTo": {"tracing": {"endpoint": "http://here:4317"}},
    "prometheus.persistence.storageClass": {"prometheus": {"persistence": {"enabled": True}}},
    "tempo.persistence.storageClass": {"tempo": {"persistence": {"enabled": True}}},
    "grafana.persistence.storageClass": {"grafana": {"persistence": {"enabled": True}}},
    "jaeger.": {"tempo": {"enabled": False}, "jaeger": {"enabled": True}},
}
STORES = ("redis", "postgres")
# What a key is changed to where "another of the same type" is not accepted.
OTHER: dict[str, Any] = {
    "image.digest": "sha256:" + "a" * 64,
    "image.pullPolicy": "Never",
    "service.type": "NodePort",
    "service.nodePort": 30080,
    "service.externalTrafficPolicy": "Local",
    "service.loadBalancerSourceRanges": ["192.0.2.0/24"],
    "service.ipFamilyPolicy": "PreferDualStack",
    "service.ipFamilies": ["IPv6"],
    "ingress.enabled": False,
    "ingress.hosts": [{"host": "elsewhere.example.com"}],
    "ingress.tls": [{"secretName": "certificate"}],
    "httpRoute.enabled": False,
    "httpRoute.parentRefs": [{"name": "elsewhere"}],
    "httpRoute.hostnames": ["elsewhere.example.com"],
    "httpRoute.path": "/elsewhere",
    "httpRoute.filters": [{"type": "RequestHeaderModifier"}],
    "backup.enabled": False,
    "backup.schedule": "1 2 3 4 5",
    "upload.command": ["copy"],
    "upload.env": [{"name": "A", "value": "b"}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "initContainers": [{"name": "first", "image": "busybox:1.37"}],
    "sidecars": [{"name": "beside", "image": "busybox:1.37"}],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}}],
    "externalDatabase.sslMode": "verify-full",
    "externalRedis.uri": "redis://elsewhere:6379",
    "externalRedis.morePorts": [26379],
    "autoscaling.metrics": [{"type": "Pods"}],
    "topologySpread.zones": "DoNotSchedule",
    "podMonitor.interval": "99s",
    "auth.oidc.jwksUrl": "https://elsewhere.example.com/keys",
    "auth.oidc.algorithms": "EdDSA",
    "config.logLevel": "debug",
    "config.logFormat": "console",
    "config.rootPath": "/elsewhere",
    "topologySpread.whenUnsatisfiable": "DoNotSchedule",
    "terminationGracePeriodSeconds": 99,
    "maxMemory": "99mb",
    "persistence.size": "9Gi",
    "serviceMonitor.interval": "99s",
    "scrapeInterval": "99s",
    "prometheus.retention": "99d",
    "tempo.retention": "99h",
    "tracing.endpoint": "http://there:9999",
    "tracing.protocol": "http/protobuf",
    "tolerations": [{"operator": "Exists"}],
    "imagePullSecrets": [{"name": "pull"}],
    "extraEnv": [{"name": "A", "value": "b"}],
    "httpFrom": [],
    "metricsFrom": [],
    "clients": [{"podSelector": {"matchLabels": {"a": "b"}}}],
    "extraEgress": [{"ports": [{"port": 9}]}],
    "runbookBaseUrl": "https://runbooks.example.com",
    "probes.startup": {"periodSeconds": 9},
    "probes.liveness": {"periodSeconds": 9},
    "probes.readiness": {"periodSeconds": 9},
    "invoice.url": "http://elsewhere:9",
    "resources.requests": {"cpu": "9", "memory": "9Mi"},
    "resources.limits": {"memory": "9Gi"},
    "externalDatabase.host": "elsewhere",
    "shutdown.requestSeconds": 9,
    "shutdown.preStopSeconds": 9,
    "settings": {"work_mem": "8MB"},
    "alerts.thresholds": {"LeasesLost": 7},
    "prometheus.namespaces": ["there"],
    "order.externalRedis.existingSecret": None,
}
NETWORK_PEERS = [{"podSelector": {"matchLabels": {"a": "b"}}}]
# Keys that cannot be changed alone, and what holds them instead.
ELSEWHERE = {
    "global.lockRedis.existingSecret": "needs the Redis of the release to be another: test_shop",
    "global.lockRedis.port": "needs the Redis of the release to be another: test_shop",
    "auth.required": "needs tokens at the same time: test_auth",
    "allowEmptyMajor": "takes a check away: test_stores",
    "redis.enabled": "needs another Redis at the same time: test_schema, combinations",
    "postgres.enabled": "needs another database at the same time: test_schema, combinations",
    "order.redis.enabled": "may only be false: test_schema",
    "invoice.redis.enabled": "may only be false: test_schema",
    "order.externalRedis.existingSecret": "must be the same for both: test_schema",
    "invoice.externalRedis.existingSecret": "must be the same for both: test_schema",
    "order.invoice.url": "must be the invoice service's: test_schema",
    "shutdown.closeSeconds": "counts only in the sum that the stop must fit into: test_schema",
    "jaeger.enabled": "excludes tempo: test_schema, combinations",
}


def leaves(node: Values, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value and not written_in_braces(key):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def written_in_braces(key: str) -> bool:
    """Sections that are one value: whatever is in them is passed on as it is."""
    return key in ("requests", "limits", "startup", "liveness", "readiness", "labels")


@functools.cache
def defaults(chart: str) -> Values:
    (loaded,) = load_all((ROOT / "charts" / chart / "values.yaml").read_text())
    return loaded


def keys(chart: str) -> list[str]:
    found = [key for key, _ in leaves(defaults(chart)) if key not in ELSEWHERE]
    if chart == "invoice":  # made of the same templates as order, one line each
        same = dict(leaves(defaults("order")))
        found = [key for key in found if key not in same or key.startswith("config.")]
    return found


def other(path: str, default: Any) -> Any:
    for ending, value in OTHER.items():
        if path == ending or path.endswith(f".{ending}"):
            return value
    match default:
        case bool():
            return not default
        case int() | float():
            return default + 1
        case str():
            return default + "x"
        case list():
            return NETWORK_PEERS if "networkPolicy" in path else ["x"]
    return {"a": "b"}


def nested(path: str, value: Any) -> Values:
    for name in reversed(path.split(".")):
        value = {name: value}
    result: Values = value
    return result


def context(chart: str, path: str) -> Values:
    found = [values for start, values in CONTEXT.items() if path.startswith(start)]
    exact = CONTEXT.get(path)
    wanted = exact if exact is not None else merged(*found)
    if chart in ("order", "invoice") and path == "auth.existingSecret":
        wanted = TOKENS
    of_exporter = path.startswith("metrics.") or path == "networkPolicy.metricsFrom"
    if chart in STORES and of_exporter and path != "metrics.enabled":
        return merged(wanted, {"metrics": {"enabled": True}})
    return wanted


@pytest.mark.parametrize(
    ("chart", "path"),
    [(chart, path) for chart in FIXED for path in keys(chart)],
)
def test_changes_the_output(charts: Charts, chart: str, path: str) -> None:
    base = merged(FIXED[chart], context(chart, path))
    default = dict(leaves(merged(defaults(chart), base))).get(path)
    changed = merged(base, nested(path, other(path, default)))
    before = charts.text(chart, json.dumps(base))
    assert charts.text(chart, json.dumps(changed)) != before


def test_both_services_are_made_of_the_same_templates() -> None:
    def files(chart: str) -> dict[str, str]:
        folder = ROOT / "charts" / chart / "templates"
        own = (f"_{chart}.tpl", "NOTES.txt")
        return {
            str(path.relative_to(folder)): path.read_text()
            for path in folder.rglob("*")
            if path.is_file() and path.name not in own
        }

    assert files("order") == files("invoice")
