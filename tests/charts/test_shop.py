"""The shop's chart: what is said once holds for Redis and for both services."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.charts.network import Network
from tests.charts.rendering import Charts, Manifest, Values, of_kind, one

from devkit.services import SERVICES

OFF: Values = {"redis": {"enabled": False}}
SERVER = {"externalRedis": {"host": "redis.example.com", "password": "p"}}


def redis_secret(manifests: list[Manifest], service: str) -> Any:
    spec = one(manifests, "Deployment", f"rel-{service}")["spec"]["template"]["spec"]
    env = {each["name"]: each for each in spec["containers"][0]["env"]}
    return env[f"{service.upper()}_REDIS_URL"]["valueFrom"]["secretKeyRef"]["name"]


@pytest.mark.parametrize(
    "values", [{"redis": {"port": 6380}}, {"global": {"lockRedis": {"port": 6380}}}]
)
def test_another_port_of_redis_is_the_same_everywhere(charts: Charts, values: Values) -> None:
    manifests = charts.render("shop", values)
    held = one(manifests, "Secret", "rel-redis")["data"]
    assert base64.b64decode(held["uri"]).decode().endswith("@rel-redis:6380/0")
    assert one(manifests, "Service", "rel-redis")["spec"]["ports"][0]["port"] == 6380
    assert "port 6380\n" in one(manifests, "ConfigMap", "rel-redis")["data"]["redis.conf"]
    network = Network(manifests)
    for service in SERVICES:
        assert network.allows(f"Deployment/rel-{service}", "StatefulSet/rel-redis", 6380)
    assert network.allows("Pod/rel-redis-test", "StatefulSet/rel-redis", 6380)


def test_another_port_of_the_databases_is_the_same_everywhere(charts: Charts) -> None:
    manifests = charts.render("shop", {"order": {"postgres": {"port": 5433}}})
    assert Network(manifests).allows("Deployment/rel-order", "StatefulSet/rel-order-postgres", 5433)


def test_one_value_names_the_secret_of_redis_for_all_three(charts: Charts) -> None:
    manifests = charts.render("shop", {"global": {"lockRedis": {"existingSecret": "theirs"}}})
    assert {redis_secret(manifests, service) for service in SERVICES} == {"theirs"}
    spec = one(manifests, "StatefulSet", "rel-redis")["spec"]["template"]["spec"]
    assert "theirs" in {v["secret"]["secretName"] for v in spec["volumes"] if "secret" in v}
    assert "rel-redis" not in {s["metadata"]["name"] for s in of_kind(manifests, "Secret")}


def test_one_value_names_the_secret_of_a_redis_of_ones_own(charts: Charts) -> None:
    values = {**OFF, "global": {"lockRedis": {"existingSecret": "theirs", "port": 6390}}}
    manifests = charts.render("shop", values)
    assert {redis_secret(manifests, service) for service in SERVICES} == {"theirs"}
    network = Network(manifests)
    for service in SERVICES:
        assert network.passes("Egress", f"Deployment/rel-{service}", "a server outside", 6390)
        assert not network.passes("Egress", f"Deployment/rel-{service}", "a server outside", 6379)


def test_a_redis_server_can_be_named_without_emptying_the_secret(charts: Charts) -> None:
    manifests = charts.render("shop", {**OFF, **dict.fromkeys(SERVICES, SERVER)})
    for service in SERVICES:
        assert redis_secret(manifests, service) == f"rel-{service}-redis"
        network = Network(manifests)
        assert network.passes("Egress", f"Deployment/rel-{service}", "a server outside", 6379)


def test_an_address_of_ipv6_is_in_brackets_in_a_uri_only(charts: Charts) -> None:
    values = {
        "postgres": {"enabled": False},
        "externalDatabase": {"host": "2001:db8::1", "password": "p"},
    }
    held = one(charts.render("order", values), "Secret", "rel-order-database")["data"]
    assert base64.b64decode(held["uri"]).decode() == "postgresql://order:p@[2001:db8::1]:5432/order"
    assert base64.b64decode(held["host"]).decode() == "2001:db8::1"


def test_a_redis_with_certificates_is_told_where_they_are(charts: Charts) -> None:
    external = {"host": "r", "existingSecret": "", "password": "p", "tls": True, "tlsSecret": "t"}
    values = {"redis": {"enabled": False}, "externalRedis": {**external, "clientCertificate": True}}
    held = one(charts.render("order", values), "Secret", "rel-order-redis")["data"]
    assert base64.b64decode(held["uri"]).decode() == (
        "rediss://default:p@r:6379/0?ssl_ca_certs=/etc/shop/redis-tls/ca.crt"
        "&ssl_certfile=/etc/shop/redis-tls/tls.crt&ssl_keyfile=/etc/shop/redis-tls/tls.key"
    )


def stateful(charts: Charts, chart: str, values: Values) -> Manifest:
    (found,) = of_kind(charts.render(chart, values), "StatefulSet")
    return found


@pytest.mark.parametrize(("tag", "major"), [("17", "17"), ("18.1-alpine", "18"), ("latest", "18")])
def test_the_data_of_every_postgres_are_on_the_volume(charts: Charts, tag: str, major: str) -> None:
    spec = stateful(charts, "postgres", {"image": {"tag": tag}})["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    env = {each["name"]: each.get("value") for each in container["env"]}
    (data,) = (each for each in container["volumeMounts"] if each["name"] == "data")
    assert env["PGDATA"] == f"{data['mountPath']}/{major}/docker"


def test_the_data_of_another_major_version_stop_the_start(charts: Charts) -> None:
    def command(values: Values) -> Any:
        spec = stateful(charts, "postgres", values)["spec"]["template"]["spec"]
        return spec["containers"][0].get("command")

    assert "another major version" in command({})[2]
    assert command({"allowEmptyMajor": True}) is None


def test_a_probe_of_postgres_that_is_cut_off_leaves_no_child_to_the_server(charts: Charts) -> None:
    """Seen: "untracked child process exited with exit code 2", and every connection was dropped."""
    (container,) = stateful(charts, "postgres", {})["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        shell, option, script = container[probe]["exec"]["command"]
        assert (shell, option) == ("sh", "-c")
        assert script.startswith("exec pg_isready ")
        assert not set(";&|") & set(script)


@pytest.mark.parametrize("chart", ["redis", "postgres"])
def test_a_claim_of_ones_own_is_used(charts: Charts, chart: str) -> None:
    spec = stateful(charts, chart, {"persistence": {"existingClaim": "theirs"}})["spec"]
    assert "volumeClaimTemplates" not in spec
    volumes = {each["name"]: each for each in spec["template"]["spec"]["volumes"]}
    assert volumes["data"]["persistentVolumeClaim"] == {"claimName": "theirs"}


@pytest.mark.parametrize("chart", ["redis", "postgres"])
def test_an_exporter_is_scraped_and_nobody_else_may(charts: Charts, chart: str) -> None:
    values = {"metrics": {"enabled": True, "podMonitor": {"enabled": True}}}
    manifests = charts.render(chart, values)
    name, port = f"StatefulSet/rel-{chart}", 9121 if chart == "redis" else 9187
    monitor = one(manifests, "PodMonitor", f"rel-{chart}")["spec"]["selector"]["matchLabels"]
    pod = one(manifests, "StatefulSet", f"rel-{chart}")["spec"]["template"]
    assert monitor.items() <= pod["metadata"]["labels"].items()
    network = Network(manifests + charts.render("observability"))
    assert network.passes("Ingress", name, "Deployment/rel-observability-prometheus", port)
    assert not network.passes("Ingress", name, "a stranger", port)
    assert json.dumps(pod).count('"name": "metrics"') == 2


def test_redis_reads_its_password_from_a_file_that_follows_the_secret(charts: Charts) -> None:
    """A pod's environment stays as it was: a probe that asks with it fails after a change."""
    spec = stateful(charts, "redis", {})["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert not [each for each in container["env"] if "valueFrom" in each]
    for probe in ("startupProbe", "readinessProbe"):
        assert "/run/redis/password" in json.dumps(container[probe])
