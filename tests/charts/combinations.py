"""The combinations of values that the structural tests are held against."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.charts.rendering import Values

EXTERNAL_DATABASE: Values = {
    "postgres": {"enabled": False},
    "externalDatabase": {"host": "db.example.com", "password": "p@ss word"},
}
EXTERNAL_REDIS: Values = {
    "redis": {"enabled": False},
    "externalRedis": {
        "existingSecret": "",
        "host": "redis.example.com",
        "password": "p",
        "tls": True,
    },
}
SECRETS: Values = {
    "postgres": {"enabled": False},
    "externalDatabase": {"existingSecret": "their-database"},
    "redis": {"enabled": False},
    "externalRedis": {"existingSecret": "their-redis"},
}
SCHEDULING: Values = {
    "priorityClassName": "high",
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "shop", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "global": {"imagePullSecrets": [{"name": "pull"}], "imageRegistry": "mirror.example.com"},
}
SERVICE: dict[str, Values] = {
    "external-database": EXTERNAL_DATABASE,
    "external-redis": EXTERNAL_REDIS,
    "secrets-and-hook": SECRETS | {"migrations": {"hook": True}},
    "autoscaling": {"autoscaling": {"enabled": True}},
    "tracing": {"tracing": {"endpoint": "http://tempo.tracing:4317"}},
    "operator": {
        "metrics": {"serviceMonitor": {"enabled": True}},
        "alerts": {"prometheusRule": {"enabled": True}},
    },
    "bare": {
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "serviceAccount": {"create": False},
        "migrations": {"enabled": False},
        "dashboards": {"enabled": False},
        "alerts": {"configMap": {"enabled": False}},
        "postgres": {"persistence": {"enabled": False}},
        "shutdown": {"preStopSeconds": 0},
    },
    "scheduling": SCHEDULING,
    "more": {
        "extraEnv": [{"name": "A", "value": "b"}],
        "podLabels": {"team": "shop"},
        "podAnnotations": {"note": "hello"},
        "image": {"digest": "sha256:" + "0" * 64},
        "networkPolicy": {"extraEgress": [{"ports": [{"port": 9999}]}]},
    },
}
STORE: dict[str, Values] = {
    "memory": {"persistence": {"enabled": False}, "networkPolicy": {"enabled": False}},
    "their-secret": {"auth": {"existingSecret": "theirs"}},
    "scheduling": SCHEDULING,
}
OBSERVABILITY: dict[str, Values] = {
    "jaeger": {"tempo": {"enabled": False}, "jaeger": {"enabled": True}},
    "no-prometheus": {"prometheus": {"enabled": False}},
    "no-traces": {"tempo": {"enabled": False}},
    "no-grafana": {"grafana": {"enabled": False}},
    "nothing": {part: {"enabled": False} for part in ("prometheus", "tempo", "grafana")},
    "logs-and-volumes": {
        "grafana": {"lokiUrl": "http://loki:3100", "persistence": {"enabled": True}},
        "prometheus": {"persistence": {"enabled": True}, "namespaces": ["a", "b"]},
        "tempo": {"persistence": {"enabled": True, "storageClass": "fast"}},
        "networkPolicy": {"enabled": False},
    },
    "scheduling": SCHEDULING,
}
SHOP: dict[str, Values] = {
    "traced": {
        service: {"tracing": {"endpoint": "http://observability-otlp:4317"}}
        for service in ("order", "invoice")
    },
    "external-redis": {
        "redis": {"enabled": False},
        **{
            service: {"externalRedis": EXTERNAL_REDIS["externalRedis"]}
            for service in ("order", "invoice")
        },
    },
    "scheduling": SCHEDULING,
}


@dataclass(frozen=True)
class Combination:
    """A chart with values, or with one of its documented values files."""

    chart: str
    name: str
    values: Values = field(default_factory=dict, hash=False)
    file: str = ""

    def __str__(self) -> str:
        return f"{self.chart}-{self.name}"


def documented(chart: str) -> list[Combination]:
    """The chart's defaults and its documented values files."""
    files = ["dev", "prod"] if chart not in ("redis", "postgres") else []
    found = [Combination(chart, name, file=f"values-{name}.yaml") for name in files]
    return [Combination(chart, "defaults"), *found]


OF_CHART = {
    "order": SERVICE,
    "invoice": {
        name: {"redis": {"enabled": True}, "externalRedis": {"existingSecret": ""}} | values
        for name, values in SERVICE.items()
    },
    "redis": STORE,
    "postgres": STORE,
    "observability": OBSERVABILITY,
    "shop": SHOP,
}
ALL = [
    combination
    for chart, variants in OF_CHART.items()
    for combination in [
        *documented(chart),
        *(Combination(chart, name, values) for name, values in variants.items()),
    ]
]
