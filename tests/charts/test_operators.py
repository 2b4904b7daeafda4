"""What an operator meets on the first days: each case was a fault once."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from tests.charts.combinations import HTTP_ROUTE, INGRESS, SECRETS, TLS, Combination
from tests.charts.network import Network
from tests.charts.rendering import Charts, Manifest, Refused, Values, merged, of_kind, one, pods
from tests.e2e.harness.programs import ROOT

# Where nothing inside says something: everybody, or the defaults of a volume.
MEANT_EMPTY = {"podSelector", "namespaceSelector", "emptyDir", "sources", "tempo"}


def deployment(manifests: list[Manifest], name: str = "rel-order") -> Manifest:
    return one(manifests, "Deployment", name)


def spec_of(manifests: list[Manifest], name: str = "rel-order") -> dict[str, Any]:
    spec: dict[str, Any] = deployment(manifests, name)["spec"]["template"]["spec"]
    return spec


def environment(manifests: list[Manifest], name: str = "rel-order") -> dict[str, Any]:
    return {each["name"]: each for each in spec_of(manifests, name)["containers"][0]["env"]}


def empty_fields(node: Any, path: str = "") -> list[str]:
    """Fields that a cluster drops when it stores them, so that a comparison never ends."""
    if isinstance(node, list):
        return [
            each for i, value in enumerate(node) for each in empty_fields(value, f"{path}[{i}]")
        ]
    if not isinstance(node, dict):
        return []
    found = []
    for key, value in node.items():
        if value in ({}, [], None) and key not in MEANT_EMPTY:
            found.append(f"{path}.{key}")
        found += empty_fields(value, f"{path}.{key}")
    return found


def test_nothing_is_rendered_that_the_cluster_would_drop(manifests: list[Manifest]) -> None:
    found = {m["metadata"]["name"]: empty_fields(m) for m in manifests}
    assert {name: fields for name, fields in found.items() if fields} == {}


@pytest.mark.parametrize("chart", ["order", "invoice"])
def test_a_pod_drains_with_a_margin_and_is_not_killed_before_it_has_stopped(
    charts: Charts, chart: str
) -> None:
    manifests = charts.render(chart)
    spec, env = spec_of(manifests, f"rel-{chart}"), environment(manifests, f"rel-{chart}")
    stop = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = int(env[f"{chart.upper()}_DRAIN_SECONDS"]["value"])
    requests = int(env[f"{chart.upper()}_SHUTDOWN_SECONDS"]["value"])
    assert stop >= 15
    assert drain > 0
    assert spec["terminationGracePeriodSeconds"] >= stop + drain + requests + 10


@pytest.mark.parametrize("file", ["", "values-prod.yaml"])
def test_a_node_that_no_pod_of_ours_may_use_does_not_count(charts: Charts, file: str) -> None:
    for service in ("order", "invoice"):
        rules = spec_of(charts.render("shop", file=file), f"rel-{service}")
        constraints = rules["topologySpreadConstraints"]
        assert {each["topologyKey"] for each in constraints} == {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }
        assert {each["nodeTaintsPolicy"] for each in constraints} == {"Honor"}


def test_an_autoscaled_release_begins_with_the_fewest_pods_allowed(charts: Charts) -> None:
    values = {"autoscaling": {"enabled": True, "minReplicas": 3}}
    manifests = charts.render("order", values)
    assert deployment(manifests)["spec"]["replicas"] == 3
    assert of_kind(manifests, "HorizontalPodAutoscaler")
    by_keda = {"autoscaling": {**values["autoscaling"], "makeAutoscaler": False}}
    assert not of_kind(charts.render("order", by_keda), "HorizontalPodAutoscaler")


def test_finished_migrations_are_removed_unless_they_are_to_stay(charts: Charts) -> None:
    def job(values: Values) -> Any:
        return of_kind(charts.render("order", values), "Job")[0]["spec"]

    assert job({})["ttlSecondsAfterFinished"] == 86400
    assert "ttlSecondsAfterFinished" not in job({"migrations": {"ttlSecondsAfterFinished": -1}})


def test_a_migration_before_an_upgrade_brings_its_own_way_to_the_new_database(
    charts: Charts,
) -> None:
    """The policy in force is the old release's, whose database was another one."""
    old = charts.render("order")
    hooks = charts.render("order", SECRETS | {"migrations": {"hook": True}})
    policy = one(hooks, "NetworkPolicy", "rel-order-migrate")
    (job,) = of_kind(hooks, "Job")
    annotations = [m["metadata"]["annotations"] for m in (policy, job)]
    assert {each["helm.sh/hook"] for each in annotations} == {"pre-install,pre-upgrade"}
    assert int(annotations[0]["helm.sh/hook-weight"]) < int(
        annotations[1].get("helm.sh/hook-weight", 0)
    )
    network = Network([*(m for m in old if m["kind"] == "NetworkPolicy"), job])
    name = f"Job/{job['metadata']['name']}"
    assert not network.passes("Egress", name, "a server outside", 5432)
    with_hook = Network([*(m for m in old if m["kind"] == "NetworkPolicy"), policy, job])
    assert with_hook.passes("Egress", name, "a server outside", 5432)


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_metrics_stay_in_the_cluster_whatever_the_type_of_the_service(
    charts: Charts, kind: str
) -> None:
    services = of_kind(charts.render("order", {"service": {"type": kind}}), "Service")
    ports = {s["metadata"]["name"]: s["spec"] for s in services}
    assert [port["name"] for port in ports["rel-order"]["ports"]] == ["http"]
    assert ports["rel-order-metrics"]["type"] == "ClusterIP"
    assert [port["port"] for port in ports["rel-order-metrics"]["ports"]] == [9100]


def test_the_service_monitor_finds_the_metrics_service_and_no_other(charts: Charts) -> None:
    manifests = charts.render("order", {"metrics": {"serviceMonitor": {"enabled": True}}})
    monitor = one(manifests, "ServiceMonitor", "rel-order")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    found = [s for s in of_kind(manifests, "Service") if wanted <= s["metadata"]["labels"].items()]
    assert [s["metadata"]["name"] for s in found] == ["rel-order-metrics"]


def test_a_long_release_name_leaves_the_end_that_says_what_a_pod_is(charts: Charts) -> None:
    manifests = charts.render("shop", release="r" * 53)
    names = {m["metadata"]["name"] for m in of_kind(manifests, "Deployment", "StatefulSet")}
    for part in ("-order", "-invoice", "-redis", "-order-postgres", "-invoice-postgres"):
        assert any(name.endswith(part) for name in names), (part, names)


@pytest.mark.parametrize("release", ["my.shop", "1shop", "0", "a.b.c"])
def test_every_release_name_that_helm_takes_makes_names_that_services_may_have(
    charts: Charts, release: str
) -> None:
    for manifest in charts.render("shop", release=release):
        name = manifest["metadata"]["name"]
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name), name
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == release


def test_release_names_that_differ_by_a_dot_do_not_meet(charts: Charts) -> None:
    def named(release: str) -> set[str]:
        return {m["metadata"]["name"] for m in charts.render("shop", release=release)}

    assert not named("my.shop") & named("my-shop")


def test_of_a_variable_or_annotation_that_both_name_the_users_is_taken(charts: Charts) -> None:
    values = {
        "extraEnv": [{"name": "ORDER_LOG_LEVEL", "value": "error"}],
        "podAnnotations": {"prometheus.io/scrape": "false"},
        "tracing": {"endpoint": "http://here:4317"},
    }
    manifests = charts.render("order", values)
    container = spec_of(manifests)["containers"][0]
    names = [each["name"] for each in container["env"]]
    assert len(names) == len(set(names))
    assert environment(manifests)["ORDER_LOG_LEVEL"]["value"] == "error"
    annotations = deployment(manifests)["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "false"


def test_a_variable_of_the_users_is_there_before_those_that_refer_to_it(charts: Charts) -> None:
    """Kubernetes fills in $(POD_NAME) from what stands above it."""
    values = {
        "extraEnv": [
            {"name": "POD_NAME", "value": "mine"},
            {"name": "A", "value": "1"},
            {"name": "A", "value": "2"},
            {"name": "PGSSLMODE", "value": "require"},
        ],
        "tracing": {"endpoint": "http://here:4317"},
        "postgres": {"enabled": False},
        "externalDatabase": {"existingSecret": "s", "sslMode": "verify-full", "tlsSecret": "t"},
    }
    manifests = charts.render("order", values)
    (job,) = of_kind(manifests, "Job")
    inside = job["spec"]["template"]["spec"]
    containers = [*spec_of(manifests)["containers"], *inside["containers"]]
    for container in [*containers, *inside["initContainers"]]:
        names = [each["name"] for each in container["env"]]
        assert len(names) == len(set(names)), names
        values_of = {each["name"]: each.get("value") for each in container["env"]}
        assert values_of["A"] == "2"
        assert values_of["PGSSLMODE"] == "require"
        assert values_of["PGSSLROOTCERT"] == "/etc/shop/database-tls/ca.crt"
    for container in containers:
        names = [each["name"] for each in container["env"]]
        assert names.index("POD_NAME") < names.index("OTEL_RESOURCE_ATTRIBUTES")


def path_of(charts: Charts, values: Values) -> Any:
    return environment(charts.render("order", values))["ORDER_ROOT_PATH"]["value"]


def test_the_service_knows_the_path_below_which_it_is_reached(charts: Charts) -> None:
    """Else its links lead beside it, and behind an Ingress, which takes nothing off, all is 404."""
    below = {"host": "shop.example.com", "path": "/shop", "pathType": "Prefix"}
    assert path_of(charts, INGRESS) == ""
    assert path_of(charts, HTTP_ROUTE) == "/shop"
    assert path_of(charts, {"ingress": {"enabled": True, "hosts": [below]}}) == "/shop"
    assert path_of(charts, {"ingress": {"enabled": False, "hosts": [below]}}) == ""
    behind_another = merged(HTTP_ROUTE, {"config": {"rootPath": "/all/shop"}})
    assert path_of(charts, behind_another) == "/all/shop"
    rewritten = {**below, "path": "/shop(/|$)(.*)", "pathType": "ImplementationSpecific"}
    assert path_of(charts, {"ingress": {"enabled": True, "hosts": [rewritten]}}) == ""


@pytest.mark.parametrize("given", [["pull"], [{"name": "pull"}]])
def test_pull_secrets_may_be_names_or_objects(charts: Charts, given: list[Any]) -> None:
    for name, pod in pods(charts.render("shop", {"global": {"imagePullSecrets": given}})):
        assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}], name


def test_a_registry_may_end_in_a_slash(charts: Charts) -> None:
    text = charts.text("shop", json.dumps({"global": {"imageRegistry": "mirror.example.com/x/"}}))
    images = re.findall(r'image: "(.+)"', text)
    assert images
    assert all(image.startswith("mirror.example.com/x/") for image in images)
    assert not any("//" in image for image in images)


@pytest.mark.parametrize("tag", [19, 20261126])
def test_a_tag_may_be_a_number_as_it_is_on_a_command_line(charts: Charts, tag: int) -> None:
    values = {"image": {"tag": tag}, "postgres": {"image": {"tag": tag}}}
    images = set(re.findall(r'image: "(.+)"', charts.text("order", json.dumps(values))))
    assert images == {f"shop/order:{tag}", f"postgres:{tag}", "redis:8"}


def test_common_labels_are_on_everything_but_the_templates_of_the_stores(charts: Charts) -> None:
    values = {"global": {"commonLabels": {"team": "shop"}}}
    for manifest in charts.render("shop", values):
        assert manifest["metadata"]["labels"]["team"] == "shop", manifest["metadata"]["name"]
        if manifest["kind"] == "StatefulSet":
            assert "team" not in manifest["spec"]["template"]["metadata"]["labels"]
            assert "team" not in json.dumps(manifest["spec"]["volumeClaimTemplates"])
        if manifest["kind"] == "Deployment":
            assert "team" not in manifest["spec"]["selector"]["matchLabels"]


def test_large_numbers_are_written_out(charts: Charts) -> None:
    """Go prints 1e+06 for a million that YAML has made a float of."""
    million = 10_000_000
    values = {
        "replicaCount": million,
        "terminationGracePeriodSeconds": million,
        "shutdown": {"preStopSeconds": million - 9_000, "requestSeconds": 1_000},
        "config": {"maxBodyBytes": million, "idempotencyRetentionSeconds": million},
        "migrations": {
            "activeDeadlineSeconds": million,
            "databaseWaitSeconds": million,
            "backoffLimit": million,
            "ttlSecondsAfterFinished": million,
        },
        "probes": {"startup": {"failureThreshold": million}},
        "alerts": {"thresholds": {"LeasesLost": million}},
        "postgres": {
            "settings": {"work_mem": million},
            "terminationGracePeriodSeconds": million,
            "resources": {"limits": {"memory": million}},
        },
        "autoscaling": {"enabled": True, "minReplicas": million, "maxReplicas": million},
    }
    text = charts.text("order", json.dumps(values))
    assert not re.findall(r".*\de\+\d.*", text)
    parts = {"prometheus": {"maxExemplars": million}, "jaeger": {"maxTraces": million}}
    jaeger = {"tempo": {"enabled": False}, "jaeger": {"enabled": True, **parts.pop("jaeger")}}
    assert not re.findall(r".*\de\+\d.*", charts.text("observability", json.dumps(jaeger | parts)))


def test_openshift_chooses_the_user_of_every_pod(charts: Charts) -> None:
    for chart in ("shop", "observability"):
        for name, pod in pods(charts.render(chart, {"global": {"openshift": True}})):
            security = pod["spec"]["securityContext"]
            assert security["runAsNonRoot"] is True
            assert not {"runAsUser", "runAsGroup", "fsGroup"} & security.keys(), name


def test_fields_of_the_security_contexts_can_be_changed_and_taken_away(charts: Charts) -> None:
    values = {
        "podSecurityContext": {"runAsUser": 1000, "fsGroup": None},
        "securityContext": {"readOnlyRootFilesystem": False},
    }
    spec = spec_of(charts.render("order", values))
    assert spec["securityContext"]["runAsUser"] == 1000
    assert "fsGroup" not in spec["securityContext"]
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is False
    assert spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False


def test_certificates_are_mounted_wherever_the_stores_are_opened(charts: Charts) -> None:
    manifests = charts.render("order", TLS)
    (job,) = of_kind(manifests, "Job")
    for spec in (spec_of(manifests), job["spec"]["template"]["spec"]):
        secrets = {v["name"]: v["secret"] for v in spec["volumes"] if "secret" in v}
        assert {each["secretName"] for each in secrets.values()} == {"database-tls", "redis-tls"}
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
            env = {each["name"]: each.get("value") for each in container["env"]}
            assert secrets.keys() <= mounts.keys()
            assert env["PGSSLMODE"] == "verify-full"
            assert env["PGSSLROOTCERT"] == f"{mounts['database-tls']}/ca.crt"
            assert env["PGSSLKEY"] == f"{mounts['database-tls']}/tls.key"


def test_the_api_is_reached_by_an_ingress_or_a_route_when_asked_for(charts: Charts) -> None:
    assert not of_kind(charts.render("shop"), "Ingress", "HTTPRoute")
    ingress = one(charts.render("order", INGRESS), "Ingress", "rel-order")["spec"]
    (path,) = ingress["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": "rel-order", "port": {"name": "http"}}
    assert ingress["tls"][0]["secretName"] == "shop-tls"
    route = one(charts.render("order", HTTP_ROUTE), "HTTPRoute", "rel-order")["spec"]
    (rule,) = route["rules"]
    assert rule["matches"][0]["path"]["value"] == "/shop"
    assert rule["filters"][0]["urlRewrite"]["path"]["replacePrefixMatch"] == "/"
    assert rule["backendRefs"] == [{"name": "rel-order", "port": 3000}]


def test_manifests_of_ones_own_are_installed_as_maps_or_text(charts: Charts) -> None:
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-a"}}
    text = yaml.safe_dump({**made, "metadata": {"name": "b", "namespace": "n"}})
    rendered = charts.text("order", json.dumps({"extraObjects": [made, text]}))
    names = [m["metadata"]["name"] for m in yaml.safe_load_all(rendered) if m]
    assert {"rel-a", "b"} <= set(names)


def test_a_backup_reaches_both_databases_and_nothing_else(charts: Charts) -> None:
    manifests = charts.render("shop", {"backup": {"enabled": True}})
    network = Network(manifests)
    backup, restore = "CronJob/rel-shop-backup", "CronJob/rel-shop-restore"
    for pod in (backup, restore):
        for service in ("order", "invoice"):
            assert network.allows(pod, f"StatefulSet/rel-{service}-postgres", 5432)
        assert not network.passes("Egress", pod, "a stranger", 443)
    assert one(manifests, "CronJob", "rel-shop-restore")["spec"]["suspend"] is True
    assert one(manifests, "CronJob", "rel-shop-backup")["spec"]["suspend"] is False


def test_a_backup_verifies_the_databases_as_the_services_do(charts: Charts) -> None:
    shown = {"tlsSecret": "t", "clientCertificate": True}
    external = {"existingSecret": "s", "sslMode": "verify-full", **shown}
    service = {"postgres": {"enabled": False}, "externalDatabase": external}
    values = {"order": service, "invoice": service, "backup": {"enabled": True}}
    manifests = charts.render("shop", values)
    for script in ("backup", "restore"):
        spec = dict(pods(manifests))[f"CronJob/rel-shop-{script}"]["spec"]
        (container,) = spec["containers"]
        env = {each["name"]: each.get("value") for each in container["env"]}
        mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        assert env["PGSSLMODE"] == "verify-full"
        files = {"PGSSLROOTCERT": "ca.crt", "PGSSLCERT": "tls.crt", "PGSSLKEY": "tls.key"}
        for variable, file in files.items():
            assert env[variable] == f"{mounts['database-tls']}/{file}"
        volumes = {each["name"]: each for each in spec["volumes"]}
        # libpq refuses a key that others may read: it is the group's that the pod's user is in.
        secret = {"secretName": "t", "defaultMode": 0o440}
        assert volumes["database-tls"]["secret"] == secret
        assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]
    other = merged(values, {"invoice": {"externalDatabase": {"sslMode": "require"}}})
    with pytest.raises(Refused, match="sslMode differ"):
        charts.render("shop", other)


def test_an_upload_begins_when_the_backup_is_there(charts: Charts) -> None:
    upload = {"image": {"repository": "copy", "tag": "1"}, "command": ["copy", "/backups"]}
    egress = [{"ports": [{"port": 443, "protocol": "TCP"}]}]
    backup = {"enabled": True, "upload": upload, "extraEgress": egress}
    manifests = charts.render("shop", {"backup": backup})
    assert Network(manifests).passes("Egress", "CronJob/rel-shop-backup", "a store outside", 443)
    spec = dict(pods(manifests))["CronJob/rel-shop-backup"]["spec"]
    assert [each["name"] for each in spec["initContainers"]] == ["backup"]
    assert [each["command"] for each in spec["containers"]] == [["copy", "/backups"]]
    assert "initContainers" not in dict(pods(manifests))["CronJob/rel-shop-restore"]["spec"]


def test_services_listen_on_ipv6_where_the_cluster_has_it(charts: Charts) -> None:
    assert environment(charts.render("order"))["ORDER_HOST"]["value"] == "0.0.0.0"
    for service in ({"ipFamilies": ["IPv6"]}, {"ipFamilyPolicy": "PreferDualStack"}):
        env = environment(charts.render("order", {"service": service}))
        assert env["ORDER_HOST"]["value"] == "::"


def test_the_thresholds_that_the_schema_knows_are_those_that_the_alerts_have(
    charts: Charts,
) -> None:
    for chart in ("order", "invoice"):
        schema = json.loads((ROOT / "charts" / chart / "values.schema.json").read_text())
        thresholds = schema["properties"]["alerts"]["properties"]["thresholds"]
        known = thresholds["properties"]
        files = (ROOT / "charts" / chart / "files/alerts").glob("*.yaml")
        rules = [
            r for f in files for g in yaml.safe_load(f.read_text())["groups"] for r in g["rules"]
        ]
        # One number at the end; what compares twice has no one threshold.
        simple = {
            rule["alert"]
            for rule in rules
            if "alert" in rule
            and len(re.findall(r"[<>=]=? *[0-9.]+", rule["expr"])) == 1
            and re.search(r"> *[0-9.]+$", rule["expr"].strip())
        }
        assert set(known) == simple
        assert thresholds["additionalProperties"] is False


def test_notes_of_production_promise_no_volume_and_no_secret(charts: Charts) -> None:
    notes = charts.notes("shop", file="values-prod.yaml")
    assert "keeps" not in notes
    assert "removes everything" in notes
    assert "lock-redis" in notes
    assert "keeps the volumes of the databases and of Redis and the Secrets" in charts.notes("shop")


def test_the_notes_name_the_namespace_in_every_command(
    combination: Combination, charts: Charts
) -> None:
    notes = charts.notes(combination.chart, combination.values, file=combination.file)
    commands = re.findall(r"^ +((?:helm|kubectl) .*(?:\\\n.*)*)", notes, re.MULTILINE)
    assert all("--namespace somewhere" in command for command in commands), commands
