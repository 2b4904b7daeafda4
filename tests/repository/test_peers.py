"""The lock's page names the versions of other locks that are tried: those that are pinned."""

from __future__ import annotations

import json
import re

from tests.e2e.harness.programs import ROOT

PAGE = ROOT / "libs/lock/docs/coming-from.md"
PEERS = ROOT / "libs/lock/tests/topologies/peers"


def pinned() -> set[str]:
    """Each lock that is tried, and what it is tried with, as the page writes them."""
    go = dict(re.findall(r"(\S+)/v\d+ v(\S+)\n", (PEERS / "redsync/go.mod").read_text()))
    node = json.loads((PEERS / "node-redlock/package.json").read_text())["dependencies"]
    java = (PEERS / "redisson/pom.xml").read_text()
    (redisson,) = re.findall(r"<artifactId>redisson</artifactId>\s+<version>(.+)</version>", java)
    python = dict(
        re.findall(r"^(\S+)==(\S+)", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE)
    )
    goredis, ioredis = go["github.com/redis/go-redis"], node["ioredis"]
    fourth = node["redlock-4"].removeprefix("npm:redlock@")
    return {
        f"redsync {go['github.com/go-redsync/redsync']} with go-redis {goredis}",
        f"node-redlock {node['redlock']} with ioredis {ioredis}",
        f"node-redlock {fourth} with ioredis {ioredis}",
        f"Redisson {redisson}",
        f"redis-py {python['redis']}",
        f"python-redis-lock {python['python-redis-lock']}",
        f"pottery {python['pottery']}",
    }


def test_the_page_names_the_versions_that_are_pinned() -> None:
    table = PAGE.read_text().partition("## What was tried")[2]
    assert set(re.findall(r"^\| (\S+ \d[^|]*?) \|", table, re.MULTILINE)) == pinned()
