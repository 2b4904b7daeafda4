"""`helm uninstall`: data and the keys to it stay, everything else goes."""

from __future__ import annotations

import json

import pytest
from tests.e2e.harness.installation import STORES, Shop
from tests.e2e.harness.waiting import eventually

pytestmark = pytest.mark.e2e

KINDS = (
    "deployments,statefulsets,replicasets,jobs,pods,services,configmaps,secrets,serviceaccounts,"
    "networkpolicies,poddisruptionbudgets,persistentvolumeclaims"
)
OF_KUBERNETES = {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}


def left(shop: Shop) -> set[str]:
    said = shop.namespace.kubectl("get", KINDS, "--output=json")
    names = {f"{each['kind']}/{each['metadata']['name']}" for each in json.loads(said)["items"]}
    return names - OF_KUBERNETES


def test_only_the_volumes_and_their_secrets_are_left(shop: Shop) -> None:
    said = shop.release.uninstall(timeout_seconds=240)
    kept = {f"Secret/shop-{name}" for name in STORES}
    kept_volumes = {f"PersistentVolumeClaim/data-shop-{name}-0" for name in STORES}
    eventually(
        lambda: left(shop),
        until=lambda seen: seen == kept | kept_volumes,
        what="only the volumes and their Secrets",
        timeout_seconds=120,
    )
    assert all(f"[{secret.replace('/', '] ')}" in said for secret in kept)


def test_an_installation_after_that_finds_the_data_again(shop: Shop) -> None:
    secrets = shop.namespace.secrets()
    shop.install()
    assert shop.namespace.secrets() == secrets
    with shop.orders() as orders:
        assert next(orders.all("/orders"), None) is not None
