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
SENTINELS: Values = {
    "redis": {"enabled": False},
    "externalRedis": {
        "existingSecret": "",
        "uri": "redis+sentinel://:p@s1:26379,s2:26379,s3:26379/locks?replicas=1",
        "morePorts": [26379],
    },
}
SECRETS: Values = {
    "postgres": {"enabled": False},
    "externalDatabase": {"existingSecret": "their-database"},
    "redis": {"enabled": False},
    "externalRedis": {"existingSecret": "their-redis"},
}
INGRESS: Values = {
    "ingress": {
        "enabled": True,
        "className": "public",
        "hosts": [{"host": "shop.example.com"}],
        "tls": [{"secretName": "shop-tls", "hosts": ["shop.example.com"]}],
    }
}
HTTP_ROUTE: Values = {
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "path": "/shop"}
}
TLS: Values = {
    "postgres": {"enabled": False},
    "externalDatabase": {
        "host": "2001:db8::5432",
        "password": "p",
        "sslMode": "verify-full",
        "tlsSecret": "database-tls",
        "clientCertificate": True,
    },
    "redis": {"enabled": False},
    "externalRedis": {
        "existingSecret": "",
        "host": "redis.example.com",
        "password": "p",
        "tls": True,
        "tlsSecret": "redis-tls",
        "clientCertificate": True,
    },
}
NEAR: Values = {
    "weight": 1,
    "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]},
}
SCHEDULING: Values = {
    "priorityClassName": "high",
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "shop", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [NEAR]}},
    "annotations": {"owner": "shop"},
    "commonLabels": {"team": "shop"},
    "global": {
        "imagePullSecrets": [{"name": "pull"}, "another"],
        "imageRegistry": "mirror.example.com/",
        "commonLabels": {"stage": "test"},
    },
}
# A chart without workloads of its own to label: the shop, and observability.
PARENT_SCHEDULING = {
    k: v for k, v in SCHEDULING.items() if k not in ("annotations", "commonLabels")
}
SIDECAR: Values = {
    "image": "busybox:1.37",
    "command": ["true"],
    "resources": {"requests": {"cpu": "1m", "memory": "4Mi"}, "limits": {"memory": "8Mi"}},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    },
    "startupProbe": {"exec": {"command": ["true"]}},
    "livenessProbe": {"exec": {"command": ["true"]}},
    "readinessProbe": {"exec": {"command": ["true"]}},
}
SERVICE: dict[str, Values] = {
    "external-database": EXTERNAL_DATABASE,
    "external-redis": EXTERNAL_REDIS,
    "sentinels": SENTINELS,
    "secrets-and-hook": SECRETS | {"migrations": {"hook": True}},
    "autoscaling": {"autoscaling": {"enabled": True}},
    "tracing": {"tracing": {"endpoint": "http://tempo.tracing:4317"}},
    "operator": {
        "metrics": {"serviceMonitor": {"enabled": True}},
        "alerts": {"prometheusRule": {"enabled": True}},
    },
    "ingress": INGRESS,
    "route": HTTP_ROUTE,
    "tls": TLS,
    "node-port": {
        "service": {"type": "NodePort", "nodePort": 30080, "externalTrafficPolicy": "Local"},
        "metrics": {"podMonitor": {"enabled": True}},
    },
    "dual-stack": {
        "service": {
            "type": "LoadBalancer",
            "ipFamilyPolicy": "RequireDualStack",
            "ipFamilies": ["IPv6", "IPv4"],
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
        }
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
        "podLabels": {"team": "shop", "app.kubernetes.io/part-of": "theirs"},
        "podAnnotations": {"note": "hello", "prometheus.io/scrape": "false"},
        "extraVolumes": [{"name": "more", "emptyDir": {"sizeLimit": "1Mi"}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        "initContainers": [{"name": "first", **SIDECAR}],
        "sidecars": [{"name": "beside", **SIDECAR}],
        "image": {"digest": "sha256:" + "0" * 64},
        "networkPolicy": {"extraEgress": [{"ports": [{"port": 9999}]}]},
    },
}
STORE: dict[str, Values] = {
    "memory": {"persistence": {"enabled": False}, "networkPolicy": {"enabled": False}},
    "their-secret": {"auth": {"existingSecret": "theirs"}},
    "their-claim": {"persistence": {"existingClaim": "theirs"}},
    "exporter": {"metrics": {"enabled": True, "podMonitor": {"enabled": True}}},
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
    "scheduling": PARENT_SCHEDULING,
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
    "backup": {
        "backup": {
            "enabled": True,
            "upload": {"image": {"repository": "up", "tag": "1"}},
            "extraEgress": [{"ports": [{"port": 443}]}],
        }
    },
    "their-redis-secret": {"global": {"lockRedis": {"existingSecret": "theirs", "port": 6380}}},
    "scheduling": PARENT_SCHEDULING,
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
