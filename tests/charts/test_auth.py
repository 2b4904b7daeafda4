"""Access tokens: what the values say reaches the services, and only their serving pods."""

from __future__ import annotations

from typing import Any

import pytest
from tests.charts.rendering import Charts, Refused, Values, of_kind, one, pods

from devkit.services import SERVICES

OIDC = {
    "issuer": "https://issuer.example/realms/shop",
    "audience": "shop",
    "jwksUrl": "https://issuer.example:8443/keys?a=1&b=2",
}


def serving(charts: Charts, service: str, values: Values) -> tuple[dict[str, str], dict[str, Any]]:
    """The variables of a service's pods that are said outright, and the pods."""
    pod = one(charts.render(service, values), "Deployment", f"rel-{service}")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    found = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    return found, pod["spec"]


@pytest.mark.parametrize("service", SERVICES)
def test_nobody_needs_a_token_unless_that_is_said(charts: Charts, service: str) -> None:
    found, pod = serving(charts, service, {})
    assert not any("AUTH" in name or "TOKEN" in name for name in found)
    assert "auth-tokens" not in {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("service", SERVICES)
def test_static_tokens_are_a_file_of_a_secret(charts: Charts, service: str) -> None:
    values = {"auth": {"required": True, "existingSecret": "{{ .Release.Name }}-tokens"}}
    found, pod = serving(charts, service, values)
    prefix = service.upper()
    assert found[f"{prefix}_AUTH"] == "required"
    assert found[f"{prefix}_AUTH_TOKENS_FILE"] == "/etc/shop/auth-tokens/tokens"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["auth-tokens"]["secret"]["secretName"] == "rel-tokens"
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["auth-tokens"] == {
        "name": "auth-tokens",
        "mountPath": "/etc/shop/auth-tokens",
        "readOnly": True,
    }


@pytest.mark.parametrize("service", SERVICES)
def test_signed_tokens_need_the_way_to_the_keys_and_get_it(charts: Charts, service: str) -> None:
    values: Values = {
        "auth": {"required": True, "oidc": OIDC},
        "networkPolicy": {"authTo": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
    }
    found, _ = serving(charts, service, values)
    assert found[f"{service.upper()}_AUTH_OIDC_JWKS_URL"] == OIDC["jwksUrl"]
    assert found[f"{service.upper()}_AUTH_OIDC_ISSUER"] == OIDC["issuer"]
    policy = one(charts.render(service, values), "NetworkPolicy", f"rel-{service}")
    ways = [
        rule
        for rule in policy["spec"]["egress"]
        if {"port": 8443, "protocol": "TCP"} in rule["ports"]
    ]
    assert [rule["to"] for rule in ways] == [[{"ipBlock": {"cidr": "192.0.2.0/24"}}]]


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ({"required": True}, "nobody could call"),
        ({"existingSecret": "tokens"}, "auth.required is false"),
        ({"oidc": OIDC}, "auth.required is false"),
        ({"required": True, "oidc": {"issuer": "i"}}, "issuer, audience and jwksUrl"),
        ({"required": True, "oidc": OIDC | {"jwksUrl": "http://issuer.example/"}}, "jwksUrl"),
        ({"required": True, "oidc": OIDC | {"algorithms": "HS256"}}, "algorithms"),
    ],
)
def test_values_that_let_in_nobody_or_everybody_are_refused(
    charts: Charts, auth: Values, said: str
) -> None:
    with pytest.raises(Refused, match=said):
        charts.render("order", {"auth": auth})


def test_production_demands_tokens_and_the_order_service_has_its_own(charts: Charts) -> None:
    manifests = charts.render("shop", file="values-prod.yaml")
    for service in SERVICES:
        pod = one(manifests, "Deployment", f"rel-{service}")["spec"]["template"]["spec"]
        found = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
        assert found[f"{service.upper()}_AUTH"] == "required"
        has_own = found.get(f"{service.upper()}_INVOICE_TOKEN_FILE")
        assert has_own == ((service == "order" and "/etc/shop/invoice-token/token") or None)
    named = [
        (owner.split("/")[0], volume["secret"]["secretName"])
        for owner, pod in pods(manifests)
        for volume in pod["spec"].get("volumes", [])
        if "secret" in volume
    ]
    assert sorted(named) == [
        ("Deployment", "order-invoice-token"),
        ("Deployment", "shop-tokens"),
        ("Deployment", "shop-tokens"),
    ]
    assert not of_kind(manifests, "Secret")


def test_an_order_service_without_its_token_is_refused(charts: Charts) -> None:
    auth = {"required": True, "existingSecret": "tokens"}
    with pytest.raises(Refused, match=r"order\.invoice\.tokenSecret"):
        charts.render("shop", {"invoice": {"auth": auth}})


def test_the_test_of_a_release_shows_the_token_that_it_is_given(charts: Charts) -> None:
    manifests = charts.render("shop", {"test": {"tokenSecret": "test-token"}})
    (container,) = one(manifests, "Pod", "rel-shop-test")["spec"]["containers"]
    (variable,) = container["env"]
    source = variable["valueFrom"]["secretKeyRef"]
    assert (variable["name"], source["name"], source["key"]) == ("TOKEN", "test-token", "token")
