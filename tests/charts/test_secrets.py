"""Secrets: where they come from, what they hold, and that they are kept."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from tests.charts.combinations import EXTERNAL_DATABASE, EXTERNAL_REDIS, SECRETS, SENTINELS
from tests.charts.rendering import Charts, Manifest, Values, of_kind, one, pods
from tests.e2e.harness.programs import ROOT, run

from devkit.services import SERVICES

KEYS = {"host", "port", "username", "password", "database", "uri"}


def decoded(secret: Manifest) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def referenced(manifests: list[Manifest]) -> set[str]:
    """The Secrets that pods name."""
    containers = [c for _, pod in pods(manifests) for c in pod["spec"]["containers"]]
    variables: list[dict[str, Any]] = [v for c in containers for v in c.get("env", [])]
    sources = [variable.get("valueFrom", {}).get("secretKeyRef") for variable in variables]
    return {source["name"] for source in sources if source}


def test_every_connection_secret_has_all_keys_and_outlives_the_release(charts: Charts) -> None:
    secrets = of_kind(charts.render("shop"), "Secret")
    assert {s["metadata"]["name"] for s in secrets} == {
        "rel-redis",
        "rel-order-postgres",
        "rel-invoice-postgres",
    }
    for secret in secrets:
        assert set(secret["data"]) == KEYS
        assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        held = decoded(secret)
        uri = urlsplit(held["uri"])
        assert (uri.hostname, str(uri.port), uri.username, uri.password, uri.path) == (
            held["host"],
            held["port"],
            held["username"],
            held["password"],
            f"/{held['database']}",
        )


def test_a_password_is_random_unless_given(charts: Charts) -> None:
    first = decoded(of_kind(charts.render("redis", release="first"), "Secret")[0])
    second = decoded(of_kind(charts.render("redis", release="second"), "Secret")[0])
    assert len(first["password"]) == 32
    assert first["password"] != second["password"]
    given = charts.render("redis", {"auth": {"password": "given"}})
    assert decoded(of_kind(given, "Secret")[0])["password"] == "given"


def test_every_secret_that_a_pod_names_is_in_the_release(charts: Charts) -> None:
    manifests = charts.render("shop")
    assert referenced(manifests) == {s["metadata"]["name"] for s in of_kind(manifests, "Secret")}


def test_existing_secrets_replace_the_charts_own(charts: Charts) -> None:
    manifests = charts.render("order", SECRETS)
    assert of_kind(manifests, "Secret") == []
    assert referenced(manifests) == {"their-database", "their-redis"}


def test_a_password_with_special_characters_survives_the_uri(charts: Charts) -> None:
    secret = one(charts.render("order", EXTERNAL_DATABASE), "Secret", "rel-order-database")
    uri = urlsplit(decoded(secret)["uri"])
    assert unquote(uri.password or "") == "p@ss word"
    assert uri.hostname == "db.example.com"


def test_an_encrypted_redis_is_asked_by_its_scheme(charts: Charts) -> None:
    secret = one(charts.render("order", EXTERNAL_REDIS), "Secret", "rel-order-redis")
    assert decoded(secret)["uri"] == "rediss://default:p@redis.example.com:6379/0"


def test_a_whole_uri_reaches_the_service_as_it_is(charts: Charts) -> None:
    """Sentinels, a Cluster and a quorum need more than a host and a port."""
    secret = one(charts.render("order", SENTINELS), "Secret", "rel-order-redis")
    assert decoded(secret) == {"uri": SENTINELS["externalRedis"]["uri"]}
    assert "rel-order-redis" in referenced(charts.render("order", SENTINELS))


def test_both_services_of_the_shop_may_use_one_uri(charts: Charts) -> None:
    by_uri = {"externalRedis": SENTINELS["externalRedis"]}
    off: Values = {"redis": {"enabled": False}}
    manifests = charts.render("shop", off | dict.fromkeys(SERVICES, by_uri))
    assert {decoded(one(manifests, "Secret", f"rel-{name}-redis"))["uri"] for name in SERVICES} == {
        SENTINELS["externalRedis"]["uri"]
    }


def test_both_services_of_the_shop_use_one_redis(charts: Charts) -> None:
    manifests = charts.render("shop")

    def redis_of(name: str) -> str:
        container = one(manifests, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]
        (secret,) = (
            variable["valueFrom"]["secretKeyRef"]["name"]
            for variable in container["env"]
            if variable["name"].endswith("_REDIS_URL")
        )
        return str(secret)

    assert redis_of("rel-order") == redis_of("rel-invoice") == "rel-redis"


def test_the_secret_that_a_person_makes_as_the_page_says_has_all_keys() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("the kubectl binary is not on the PATH")
    page = (ROOT / "docs/kubernetes.md").read_text()
    (command,) = re.findall(r"`(kubectl create secret generic [^`]*)`", page)
    asked = [*shlex.split(command), "--dry-run=client", "--output=json"]
    made = json.loads(run(*asked, timeout_seconds=30, environment={"KUBECONFIG": "/dev/null"}))
    assert set(made["data"]) == KEYS
    assert decoded(made)["uri"].startswith("rediss://")
