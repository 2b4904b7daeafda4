"""`helm upgrade` with the same values; test_rollout.py has those that change something."""

from __future__ import annotations

import json

import pytest
from tests.e2e.harness.installation import STORES, Shop

from devkit.services import SERVICES

pytestmark = pytest.mark.e2e


def test_the_same_release_applied_again_changes_nothing(shop: Shop) -> None:
    """Neither what runs nor its description: whoever compares sees no difference, ever."""
    secrets, pods = shop.namespace.secrets(), shop.uids(*SERVICES, *STORES)
    kinds = "deployments,statefulsets,networkpolicies,services,configmaps,poddisruptionbudgets"

    def versions() -> dict[str, str]:
        items = json.loads(shop.namespace.kubectl("get", kinds, "--output=json"))["items"]
        return {
            f"{each['kind']}/{each['metadata']['name']}": str(
                each["metadata"].get("generation", each["metadata"]["resourceVersion"])
            )
            for each in items
        }

    shop.upgrade()
    before = versions()
    shop.upgrade()
    assert versions() == before
    assert shop.uids(*SERVICES, *STORES) == pods
    assert shop.namespace.secrets() == secrets
    manifest = shop.release.manifest()
    assert shop.namespace.kubectl("diff", "--filename=-", stdin=manifest) == ""
