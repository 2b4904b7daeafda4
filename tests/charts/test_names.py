"""Names fit, and two installs in one namespace do not meet."""

from __future__ import annotations

import re
from typing import Any

from tests.charts.combinations import Combination
from tests.charts.rendering import ANOTHER, Charts, Manifest

LABEL = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
# A StatefulSet's pods carry its name and a hash of ten characters as one label.
ROOM = {"StatefulSet": 52}


def identities(manifests: list[Manifest]) -> set[tuple[str, str, str]]:
    return {(m["kind"], m["metadata"]["namespace"], m["metadata"]["name"]) for m in manifests}


def label_values(node: Any) -> list[str]:
    if isinstance(node, list):
        return [value for inner in node for value in label_values(inner)]
    if not isinstance(node, dict):
        return []
    own = [*node.get("labels", {}).values(), *node.get("matchLabels", {}).values()]
    return own + [value for inner in node.values() for value in label_values(inner)]


def test_names_and_labels_fit_with_the_longest_release_name(manifests: list[Manifest]) -> None:
    for kind, _, name in identities(manifests):
        assert LABEL.match(name), name
        assert len(name) <= ROOM.get(kind, 63), (kind, name)
    assert max(map(len, label_values(manifests)), default=0) <= 63


def test_two_releases_in_one_namespace_share_no_name(
    charts: Charts, combination: Combination, manifests: list[Manifest]
) -> None:
    values, file = combination.values, combination.file
    others = charts.render(combination.chart, values, file=file, release=ANOTHER)
    assert not identities(manifests) & identities(others)


def test_no_name_is_used_twice(manifests: list[Manifest]) -> None:
    assert len(identities(manifests)) == len(manifests)


def test_the_shop_is_named_after_its_release(charts: Charts) -> None:
    deployments = {m["metadata"]["name"] for m in charts.render("shop", release="shop")}
    assert {"shop-order", "shop-invoice", "shop-redis", "shop-order-postgres"} <= deployments
